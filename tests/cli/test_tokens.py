"""The commands `token create`, `token list` and `token revoke`, which need no service."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pool_service.access import tokens
from pool_service.access.principal import CallerLimits, Scope
from pool_service.adapters.access.token_file import FILE_NAME, read
from pool_service.cli.commands import pool_service


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir(mode=0o700)
    return made


def run(directory: Path, command: str, *arguments: str) -> Result:
    given = ["token", command, *arguments, "--state-dir", str(directory)]
    return CliRunner().invoke(pool_service, given)


def done(directory: Path, command: str, *arguments: str) -> str:
    result = run(directory, command, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_created_token_is_printed_alone_and_known_by_its_digest(directory: Path) -> None:
    token = done(directory, "create", "engine").removesuffix("\n")
    (record,) = read(directory / FILE_NAME)
    assert record.client.token_sha256 == tokens.digest(token)
    principal = record.client.principal
    assert (principal.name, principal.scope, principal.logs) == ("engine", Scope.READ, False)
    assert principal.models.is_everything


def test_what_the_client_may_do_is_kept(directory: Path) -> None:
    options = (
        "--scope",
        "use",
        "--logs",
        "--max-holds",
        "2",
        "--starts-per-minute",
        "0",
        "--memory-share",
        "50%",
        "--model",
        "chat",
        "--model",
        "team-*",
    )
    done(directory, "create", "reader", *options, "--expires-in", "720h")
    (record,) = read(directory / FILE_NAME)
    principal = record.client.principal
    assert (principal.scope, principal.logs) == (Scope.USE, True)
    assert principal.models.patterns == ("chat", "team-*")
    assert principal.limits == CallerLimits(holds=2, starts_per_minute=0, memory_share=0.5)
    assert record.client.expires_at == pytest.approx(record.created_at + 720 * 3600)


def test_a_name_is_given_once(directory: Path) -> None:
    done(directory, "create", "engine")
    result = run(directory, "create", "engine")
    assert result.exit_code == 5
    assert "already" in result.stderr
    assert len(read(directory / FILE_NAME)) == 1


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "ä", "../x", "local"])
def test_what_is_no_name_is_refused(directory: Path, name: str) -> None:
    result = run(directory, "create", "--", name) if name.startswith("-") else None
    result = result or run(directory, "create", name)
    assert result.exit_code == 2
    assert not list(directory.iterdir())


def test_a_revoked_token_is_gone_and_the_others_stay(directory: Path) -> None:
    for name in ("a", "b"):
        done(directory, "create", name)
    done(directory, "revoke", "a")
    assert [one.client.principal.name for one in read(directory / FILE_NAME)] == ["b"]
    result = run(directory, "revoke", "a")
    assert result.exit_code == 5
    assert "token list" in result.stderr


def test_a_list_shows_clients_and_never_a_token(directory: Path) -> None:
    assert run(directory, "list").stderr == f"no client has a token in {directory / FILE_NAME}\n"
    token = done(directory, "create", "engine", "--model", "chat").strip()
    shown = done(directory, "list")
    assert "engine" in shown
    assert "chat" in shown
    assert "never" in shown
    digest = tokens.digest(token)
    assert digest is not None
    assert token not in shown
    assert digest.hex() not in shown


def test_a_list_as_json_has_an_object_for_each_client(directory: Path) -> None:
    done(directory, "create", "engine")
    done(directory, "create", "reader", "--scope", "read", "--expires-in", "1h")
    engine, reader = (json.loads(line) for line in done(directory, "list", "--json").splitlines())
    assert (engine["name"], engine["scope"], engine["models"]) == ("engine", "read", ["*"])
    assert engine["expire_time"] is None
    assert reader["expire_time"].endswith("Z")


def test_an_expired_token_is_shown_as_such(directory: Path) -> None:
    done(directory, "create", "engine", "--expires-in", "0.001s")
    assert "expired" in done(directory, "list")


def test_a_file_that_cannot_be_used_is_told_and_kept(directory: Path) -> None:
    file = directory / FILE_NAME
    file.write_text("{}")
    file.chmod(0o600)
    for command, arguments in (("create", ["a"]), ("list", []), ("revoke", ["a"])):
        result = run(directory, command, *arguments)
        assert result.exit_code == 1
        assert str(file) in result.stderr
    assert file.read_text() == "{}"


def test_a_directory_that_is_not_there_is_refused_and_not_made(tmp_path: Path) -> None:
    for command, arguments in (("create", ["a"]), ("list", []), ("revoke", ["a"])):
        result = run(tmp_path / "typo", command, *arguments)
        assert result.exit_code == 2
        assert "typo" in result.stderr
    assert not (tmp_path / "typo").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a directory of another user")
def test_root_makes_no_file_that_the_service_cannot_read(directory: Path) -> None:
    os.chown(directory, 65534, 65534)
    result = run(directory, "create", "engine")
    assert result.exit_code == 1
    assert "sudo -u '#65534'" in result.stderr
    assert not list(directory.iterdir())


def test_a_client_of_the_configuration_gets_no_token_beside_it(
    directory: Path, tmp_path: Path
) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(f"[clients.engine]\ntoken_sha256 = '{'ab' * 32}'\n")
    result = run(directory, "create", "engine", "--config", str(config))
    assert result.exit_code == 5
    assert "[clients.engine]" in result.stderr
    done(directory, "create", "another", "--config", str(config))


@pytest.mark.parametrize(
    "options",
    [("--model", ""), ("--scope", "admin", "--model", "chat")],
    ids=["empty", "of an admin"],
)
def test_models_that_make_no_sense_are_refused(directory: Path, options: tuple[str, ...]) -> None:
    assert run(directory, "create", "engine", *options).exit_code == 2
    assert not list(directory.iterdir())
