"""The commands `token create`, `token list` and `token revoke`, which need no service."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pool_service.access import tokens
from pool_service.access.principal import Scope
from pool_service.adapters.access.token_file import FILE_NAME, read
from pool_service.cli.commands import pool_service


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


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
    assert (principal.name, principal.scope, principal.logs) == ("engine", Scope.USE, False)
    assert principal.models.is_everything


def test_what_the_client_may_do_is_kept(directory: Path) -> None:
    options = ("--scope", "read", "--logs", "--model", "chat", "--model", "team-*")
    done(directory, "create", "reader", *options, "--expires-in", "720h")
    (record,) = read(directory / FILE_NAME)
    principal = record.client.principal
    assert (principal.scope, principal.logs) == (Scope.READ, True)
    assert principal.models.patterns == ("chat", "team-*")
    assert record.client.expires_at == pytest.approx(record.created_at + 720 * 3600)


def test_a_name_is_given_once(directory: Path) -> None:
    done(directory, "create", "engine")
    result = run(directory, "create", "engine")
    assert result.exit_code == 5
    assert "already" in result.stderr
    assert len(read(directory / FILE_NAME)) == 1


@pytest.mark.parametrize("name", ["", "a b", "-a", "a" * 65, "ä", "../x"])
def test_what_is_no_name_is_refused(directory: Path, name: str) -> None:
    result = run(directory, "create", "--", name) if name.startswith("-") else None
    result = result or run(directory, "create", name)
    assert result.exit_code == 2
    assert not directory.exists()


def test_a_revoked_token_is_gone_and_the_others_stay(directory: Path) -> None:
    for name in ("a", "b"):
        done(directory, "create", name)
    done(directory, "revoke", "a")
    assert [one.client.principal.name for one in read(directory / FILE_NAME)] == ["b"]
    result = run(directory, "revoke", "a")
    assert result.exit_code == 5
    assert "token list" in result.stderr


def test_a_list_shows_clients_and_never_a_token(directory: Path) -> None:
    assert run(directory, "list").stderr == "no client has a token\n"
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
    assert (engine["name"], engine["scope"], engine["models"]) == ("engine", "use", ["*"])
    assert engine["expire_time"] is None
    assert reader["expire_time"].endswith("Z")


def test_an_expired_token_is_shown_as_such(directory: Path) -> None:
    done(directory, "create", "engine", "--expires-in", "0.001s")
    assert "expired" in done(directory, "list")


def test_a_file_that_cannot_be_used_is_told_and_kept(directory: Path) -> None:
    directory.mkdir()
    file = directory / FILE_NAME
    file.write_text("{}")
    file.chmod(0o600)
    for command, arguments in (("create", ["a"]), ("list", []), ("revoke", ["a"])):
        result = run(directory, command, *arguments)
        assert result.exit_code == 1
        assert str(file) in result.stderr
    assert file.read_text() == "{}"
