"""Claims about what is found of the programs, arguments, directories and models of a file."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pool_service.adapters.runtime.registry import Runtimes
from pool_service.config import load
from pool_service.preflight import Problem, find_problems
from tests.second_address import NOWHERE, SECOND_LOOPBACK

USAGE = (
    "usage: vllm-mlx serve [-h] [--max-tokens N] [--mllm] [--api-key KEY] "
    "[--gpu-memory-utilization N] model"
)
Inspect = Callable[[str], list[Problem]]


class Machine:
    def total(self) -> int:
        return 16 * 10**9

    def available(self) -> int:
        return self.total()

    def both(self) -> tuple[int, int]:
        return self.total(), self.available()

    def pressured(self) -> bool:
        return False

    def critical(self) -> bool:
        return False

    def default_budget(self) -> int:
        return 12 * 10**9

    def use_working_set(self, working_set: int) -> bool:
        del working_set
        return False


@pytest.fixture
def inspect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inspect:
    """Finds the problems of a text, by keys, on a machine with a vllm-mlx and two models."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    program = tmp_path / "vllm-mlx"
    said = f'case "$1" in --version) echo 0.6.0;; *) echo "{USAGE}";; esac'
    program.write_text(f"#!/bin/sh\n{said}\n")
    program.chmod(0o755)
    for name in ("good", "hub/hub/models--org--there/snapshots/1"):
        directory = tmp_path / name
        directory.mkdir(parents=True)
        for file in ("config.json", "tokenizer.json", "model.safetensors"):
            (directory / file).write_text("{}")
    refs = tmp_path / "hub/hub/models--org--there/refs"
    refs.mkdir()
    (refs / "main").write_text("1")

    def inspected(text: str) -> list[Problem]:
        file = tmp_path / "pool.toml"
        command = f'[runtime]\ncommand = ["{program}", "serve", "{{runtime_model}}", "--port", "0"]'
        file.write_text(f"{command}\n{text.replace('TMP', str(tmp_path))}")
        config = load(file, {}, {})
        runtimes = Runtimes(config.all_runtime_options, tmp_path / "state")
        return list(asyncio.run(find_problems(config, runtimes, Machine())))

    return inspected


def only(problems: list[Problem]) -> Problem:
    (problem,) = problems
    return problem


def test_a_model_that_is_there_is_no_problem(inspect: Inspect) -> None:
    assert inspect('[models.a]\nruntime_model = "TMP/good"\n[models."org/there"]') == []


def test_an_address_that_is_not_there_is_a_warning_as_it_may_come(inspect: Inspect) -> None:
    problem = only(inspect(f"[fleet]\nname = 'one'\nadvertise = '{NOWHERE}'"))
    assert (problem.path, problem.is_error) == (("fleet", "advertise"), False)
    assert "no server can start" in problem.what
    assert inspect(f"[fleet]\nname = 'one'\nadvertise = '{SECOND_LOOPBACK}'") == []


def test_a_runtime_that_may_listen_elsewhere_is_named(inspect: Inspect) -> None:
    fleet = f"[fleet]\nname = 'one'\nadvertise = '{SECOND_LOOPBACK}'\n"
    ours = "[runtimes.ours]\ncommand = ['/bin/true', '{port}']\n"
    used = "[models.a]\nruntime = 'ours'\nruntime_model = 'TMP/good'"
    problem = only(inspect(fleet + ours + used))
    assert (problem.path, problem.is_error) == (("runtimes", "ours", "command"), False)
    assert "write {host}" in problem.what
    assert inspect(fleet + ours.replace("'{port}'", "'{host}', '{port}'") + used) == []


def test_each_wrong_argument_is_reported_once_with_its_key(inspect: Inspect) -> None:
    found = inspect(
        '[defaults]\narguments = ["--max-token", "5", "--api-key", "x"]\n[models.a]\n[models.b]\n'
        'arguments = ["--port", "3", "--mllm"]'
    )
    assert [(".".join(one.path), one.is_error) for one in found] == [
        ("defaults.arguments", True),
        ("defaults.arguments", True),
        ("models.b.arguments", True),
    ]
    assert "did you mean --max-tokens?" in found[0].what
    assert "--api-key cannot be set there" in found[1].what
    assert "--port is no option" in found[2].what


def test_what_costs_the_count_of_requests_is_told_with_its_key(
    inspect: Inspect, tmp_path: Path
) -> None:
    """Only before 0.6.0, whose metrics count every request."""
    models = """
    [models.a]
    runtime_model = "TMP/good"
    arguments = ["--gpu-memory-utilization", "0.8"]
    [models.b]
    runtime_model = "TMP/good"
    trust_remote_code = true
    """
    assert inspect(models) == []
    program = tmp_path / "vllm-mlx"
    program.write_text(program.read_text().replace("0.6.0", "0.5.0"))
    found = inspect(models)
    assert [(".".join(one.path), one.is_error) for one in found] == [
        ("models.a.arguments", False),
        ("models.b.trust_remote_code", False),
    ]
    options = ("--gpu-memory-utilization", "--trust-remote-code")
    for problem, option in zip(found, options, strict=True):
        assert problem.what.startswith(f"beside {option}, vllm-mlx 0.5.0 does not count streams of")


def test_what_the_pool_owns_is_known_without_the_runtime(inspect: Inspect) -> None:
    text = '[runtimes.other]\ncommand = ["/nowhere/vllm-mlx", "serve", "{runtime_model}", '
    text += '"--port", "0"]\n[models.a]\nruntime = "other"\narguments = ["--port", "3", "--who"]'
    program, argument = inspect(text)
    assert program.path == ("runtimes", "other", "command")
    assert not program.is_error
    assert "does not exist" in program.what
    assert (argument.path, argument.is_error) == (("models", "a", "arguments"), True)


def test_a_runtime_that_no_model_uses_is_no_problem(inspect: Inspect) -> None:
    assert inspect('[runtimes.other]\ncommand = ["/nowhere/server", "{port}"]') == []


def test_a_program_that_is_there_and_is_refused_is_an_error(
    inspect: Inspect, tmp_path: Path
) -> None:
    (tmp_path / "vllm-mlx").chmod(0o777)
    problem = only(inspect(""))
    assert (problem.path, problem.is_error) == (("runtime", "command"), True)
    assert "other users could change it" in problem.what


@pytest.mark.parametrize("section", ["", '[models."org/gone"]\n'], ids=["unlisted", "listed"])
def test_a_home_model_that_is_not_there_is_reported_as_the_home_model(
    inspect: Inspect, section: str
) -> None:
    problem = only(inspect(f'[service]\nhome_model = "org/gone"\n{section}'))
    assert (problem.path, problem.is_error) == (("service", "home_model"), False)
    assert problem.what.startswith("the files of the home model org/gone are not on this machine,")
    assert (
        inspect(f'[service]\nhome_model = "org/gone"\n{section}[defaults]\ndownload = true') == []
    )
    assert inspect('[service]\nhome_model = "org/there"') == []


def test_an_unlisted_home_model_that_would_be_refused_is_an_error(
    inspect: Inspect, tmp_path: Path
) -> None:
    (tmp_path / "good/model.py").touch()
    problem = only(inspect('[service]\nhome_model = "TMP/good"'))
    assert (problem.path, problem.is_error) == (("service", "home_model"), True)


def test_a_slip_in_a_path_is_an_error_and_a_drive_that_is_away_is_not(inspect: Inspect) -> None:
    slip, away = inspect(
        '[models.a]\nruntime_model = "TMP/god"\n[models.b]\nruntime_model = "TMP/drive/b"'
    )
    assert (slip.path, slip.is_error) == (("models", "a", "runtime_model"), True)
    assert slip.what.endswith("did you mean 'good'?")
    assert (away.path, away.is_error) == (("models", "b", "runtime_model"), False)
    assert "mount its drive" in away.what


def test_a_plain_runtimes_file_must_be_there_too(inspect: Inspect) -> None:
    text = '[runtimes.p]\ncommand = ["/bin/true", "{port}"]\n[models.a]\nruntime = "p"\n'
    assert only(inspect(f'{text}runtime_model = "TMP/good/god.gguf"')).is_error


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda model: (model / "config.json").unlink(), "has no config.json"),
        (lambda model: (model / "model.py").write_text(""), "brings code of its own"),
        (lambda model: model.chmod(0o777), "other users could change"),
    ],
)
def test_a_model_that_would_be_refused_is_an_error(
    inspect: Inspect, tmp_path: Path, spoil: Callable[[Path], object], told: str
) -> None:
    spoil(tmp_path / "good")
    problem = only(inspect('[models.a]\nruntime_model = "TMP/good"'))
    assert problem.is_error
    assert told in problem.what


def test_directories_that_are_not_there_are_warnings(inspect: Inspect) -> None:
    found = inspect(
        '[service]\ntrusted_directories = ["TMP/away", "TMP/good"]\n[defaults]\n'
        'environment = { HF_HOME = "TMP/away", OTHER = "TMP/away" }'
    )
    assert [(".".join(one.path), one.is_error) for one in found] == [
        ("service.trusted_directories", False),
        ("defaults.environment", False),
    ]


def test_an_alias_that_hides_a_model_is_reported(inspect: Inspect) -> None:
    loaded, on_disk = inspect(
        '[models.a]\naliases = ["org/x", "chat", "org/there"]\n[models.b]\nruntime_model = "org/x"'
    )
    assert 'is also what models."b" loads' in loaded.what
    assert "is also a model on this machine" in on_disk.what
    assert {loaded.path, on_disk.path} == {("models", "a", "aliases")}
    assert [loaded.is_error, on_disk.is_error] == [False, False]
    assert inspect('[models.a]\nruntime_model = "org/there"\naliases = ["org/there"]') == []


def test_a_service_that_lists_nothing_and_serves_only_that_is_an_error(inspect: Inspect) -> None:
    assert only(inspect("[service]\nonly_listed = true")).path == ("service", "only_listed")


def test_what_takes_too_long_is_reported_and_the_rest_with_it(
    inspect: Inspect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stuck(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Runtimes, "estimate", stuck)
    monkeypatch.setattr("pool_service.preflight.inspection.TIME_LIMIT_S", 0.5)
    first, last = inspect('[service]\ntrusted_directories = ["TMP/away"]\n[models.a]')
    assert first.path == ("service", "trusted_directories")
    assert "not everything could be checked" in last.what
    assert not last.is_error
