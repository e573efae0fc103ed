"""Claims about `fleet`: what it refuses to begin with, and what the front gets of its options."""

import sys
from pathlib import Path
from types import ModuleType

import pytest

from pool_service.fleet.config import FrontConfig, FrontSource
from tests.cli.conftest import Run

ONE = '[front]\nlog_level = "error"\n[members]\none = "127.0.0.1:50051"\n'
APP = "pool_service.fleet.app"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "fleet.toml"
    file.write_text(ONE)
    return file


class Front(ModuleType):
    """Takes the place of the front, and remembers what it was to run."""

    def __init__(self) -> None:
        super().__init__(APP)
        self.given: list[tuple[FrontSource, FrontConfig]] = []

    def run(self, source: FrontSource, config: FrontConfig) -> int:
        self.given.append((source, config))
        return 7


@pytest.fixture
def front(monkeypatch: pytest.MonkeyPatch) -> Front:
    front = Front()
    monkeypatch.setitem(sys.modules, APP, front)
    return front


def test_the_front_gets_the_file_below_the_flags_and_gives_the_exit_code(
    run: Run, front: Front, file: Path
) -> None:
    flags = ["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2", "--log-format", "json"]
    assert run("fleet", "serve", "--config", str(file), *flags).exit_code == 7
    ((source, config),) = front.given
    assert config.front.listen == ("127.0.0.1:1", "127.0.0.1:2")
    assert (config.front.log_format, config.front.log_level) == ("json", "error")
    assert config.static_members == {"one": "127.0.0.1:50051"}
    file.write_text(ONE.replace("one", "two"))
    again = source.load_again()
    assert again.static_members.keys() == {"two"}
    assert again.front.listen == config.front.listen


def test_without_a_flag_the_file_decides(run: Run, front: Front, file: Path) -> None:
    run("fleet", "serve", "--config", str(file))
    ((_, config),) = front.given
    assert config.front.listen == ("127.0.0.1:50050",)
    assert (config.front.log_format, config.front.log_level) == ("text", "error")


def test_a_configuration_that_is_wrong_starts_nothing(run: Run, front: Front, file: Path) -> None:
    file.write_text("[front]\nlisen = []\nbeat = 0")
    result = run("fleet", "serve", "--config", str(file), "--log-level", "debug")
    assert (result.exit_code, front.given) == (2, [])
    assert "front.lisen: there is no such key, did you mean front.listen?" in result.stderr
    assert "front.beat: must be seconds" in result.stderr


def test_without_a_member_it_says_what_to_write(run: Run, front: Front) -> None:
    result = run("fleet", "serve")
    assert (result.exit_code, front.given) == (2, [])
    assert 'NAME = "host:port"' in result.stderr


def test_without_its_packages_it_names_the_extra(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, APP, None)
    result = run("fleet", "serve", "--config", str(file))
    assert (result.exit_code, "pool-service[fleet]" in result.stderr) == (2, True)


def test_a_check_needs_no_packages_and_says_that_a_file_is_valid(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, APP, None)
    result = run("fleet", "config", "check", str(file))
    assert (result.exit_code, result.stdout) == (0, f"{file} is valid\n")


def test_a_check_reports_every_problem_with_its_key(run: Run, file: Path) -> None:
    file.write_text('[front]\nlost_after = 1\nbeat = 1\n[members]\none = "studio.example:50051"')
    result = run("fleet", "config", "check", str(file))
    assert result.exit_code == 2
    assert "front.lost_after: lost_after (1 s) must be at least twice" in result.stderr
    assert "member_tls: must have ca, cert, key" in result.stderr


def test_a_check_is_of_the_file_alone(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_SERVICE_FLEET_BEAT", "nonsense")
    assert run("fleet", "config", "check", str(file)).exit_code == 0
