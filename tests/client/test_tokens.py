"""The token of a client: its source, when it is refused, and in which calls it is shown."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from pool_service_client import PoolClient, bearer
from pool_service_client.headers import HeadersSource
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Connect
from tests.client.scripted import Script, Stay, changed, held, ready, synced
from tests.conformance.scenarios.answers import BROKEN, DIED

TOKEN = "pst_0123456789-abcdefghijklmnopqrstuvwxyz_ABCDE"
OTHER = "pst_another"
HERE = "127.0.0.1:50051"


def shown(header: HeadersSource | None) -> str | None:
    """What a call would show now."""
    if header is None:
        return None
    ((name, value),) = header()
    assert name == "authorization"
    return value


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "token", f" {TOKEN}\n")


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    """Put a new file in the place of another, as who rotates a token does."""
    new = path.with_name("new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(path)
    return path


def test_the_one_given_goes_before_the_variables_and_a_token_before_a_file(file: Path) -> None:
    both = {"POOL_SERVICE_TOKEN": OTHER, "POOL_SERVICE_TOKEN_FILE": str(file)}
    assert shown(bearer.header("given", None, both)) == "Bearer given"
    assert shown(bearer.header(None, file, both)) == f"Bearer {TOKEN}"
    assert shown(bearer.header(None, None, both)) == f"Bearer {OTHER}"
    only = {"POOL_SERVICE_TOKEN": "", "POOL_SERVICE_TOKEN_FILE": str(file)}
    assert shown(bearer.header(None, None, only)) == f"Bearer {TOKEN}"
    nothing = {"POOL_SERVICE_TOKEN": "", "POOL_SERVICE_TOKEN_FILE": ""}
    assert bearer.header(None, None, nothing) is None


def test_both_at_once_are_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        bearer.header(TOKEN, file, {})


def test_the_home_directory_stands_for_a_tilde(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    assert shown(bearer.header(None, "~/token", {})) == f"Bearer {TOKEN}"
    with pytest.raises(ValueError, match="home directory that is not known"):
        bearer.header(None, "~no-such-user/token", {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("x" * 4097, "more than 4096 characters"),
        ("two words", "white space"),
        ("line\nline", "white space"),
        ("bell\a", "not ASCII"),
        ("tökén", "not ASCII"),
    ],
)
def test_what_is_no_token_is_refused_without_repeating_it(
    tmp_path: Path, text: str, why: str
) -> None:
    def in_a_file() -> None:
        bearer.header(None, written(tmp_path / "f", text), {})

    ways: list[tuple[Callable[[], object], str]] = [
        (lambda: bearer.header(text, None, {}), "the token "),
        (in_a_file, f"the token file {tmp_path / 'f'} "),
    ]
    if text:
        variable = {"POOL_SERVICE_TOKEN": text}
        ways.append((lambda: bearer.header(None, None, variable), "POOL_SERVICE_TOKEN"))
    for way, source in ways:
        with pytest.raises(ValueError, match=why) as refusal:
            way()
        assert source in str(refusal.value)
        assert not text or text not in str(refusal.value)


def test_the_longest_token_is_one() -> None:
    assert shown(bearer.header("~" * 4096, None, {})) == f"Bearer {'~' * 4096}"


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o666, 0o601])
def test_a_file_that_others_may_use_is_refused_with_what_to_do(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ValueError, match=f"not private.*chmod 600 {file}"):
        bearer.header(None, file, {})


def test_a_file_that_a_group_may_read_is_taken(file: Path) -> None:
    file.chmod(0o440)
    assert shown(bearer.header(None, file, {})) == f"Bearer {TOKEN}"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read: No such file.*Name a file"):
        bearer.header(None, tmp_path / "none", {})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_refused(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(ValueError, match=r"cannot be read: Permission denied"):
        bearer.header(None, file, {})


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the token file"):
        bearer.header(None, tmp_path, {})


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ValueError, match="no regular file"):
        bearer.header(None, tmp_path / "pipe", {})


def test_a_refused_file_is_closed(tmp_path: Path) -> None:
    """A directory can be opened, and only then turns out not to be readable."""
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        with pytest.raises(ValueError, match="the token file"):
            bearer.header(None, tmp_path, {})
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_file_larger_than_a_mebibyte_is_refused(tmp_path: Path) -> None:
    spaces = written(tmp_path / "large", f"{TOKEN}{' ' * (1024 * 1024 - len(TOKEN))}")
    assert shown(bearer.header(None, spaces, {})) == f"Bearer {TOKEN}"
    with spaces.open("a") as file:
        file.write(" ")
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        bearer.header(None, spaces, {})


def test_a_replaced_file_counts_at_once(file: Path) -> None:
    header = bearer.header(None, file, {})
    written(file, OTHER)
    assert shown(header) == f"Bearer {OTHER}"
    file.write_text("in-place")
    assert shown(header) == "Bearer in-place"


def test_a_relative_path_stays_the_same_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    header = bearer.header(None, "token", {})
    monkeypatch.chdir("/")
    written(file, OTHER)
    assert shown(header) == f"Bearer {OTHER}"


def test_an_unchanged_file_is_not_opened_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = bearer.header(None, file, {})
    assert header is not None

    def opened(*_: object) -> int:
        raise AssertionError("it was opened again")

    monkeypatch.setattr(os, "open", opened)
    assert shown(header) == f"Bearer {TOKEN}"


def test_a_file_that_goes_bad_keeps_the_last_token_until_it_is_mended(file: Path) -> None:
    header = bearer.header(None, file, {})
    file.unlink()
    assert shown(header) == f"Bearer {TOKEN}"
    for text, mode in (("", 0o600), ("two words", 0o600), (OTHER, 0o644)):
        written(file, text, mode)
        assert shown(header) == f"Bearer {TOKEN}"
    # That changes neither size nor time of the content.
    file.chmod(stat.S_IRUSR)
    assert shown(header) == f"Bearer {OTHER}"


def test_no_repr_has_the_token(file: Path) -> None:
    for header in (bearer.header(TOKEN, None, {}), bearer.header(None, file, {})):
        with grpc.insecure_channel(HERE) as channel:
            showing = bearer.showing(channel, header)
            pool = PoolClient(showing)
            seen = [header, showing, pool, *vars(showing).values(), *vars(pool).values()]
            assert TOKEN not in "".join(map(repr, seen))


async def test_every_call_shows_the_token(connect: Connect, service: Script) -> None:
    service.answer("Ensure", DIED)
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    service.answer("Evict", pb.EvictResponse())
    service.answer("List", pb.ListResponse())
    service.answer("ListModels", pb.ListModelsResponse())
    service.answer("Forget", pb.ForgetResponse())
    service.answer("Pin", pb.PinResponse())
    service.answer("Describe", pb.DescribeResponse())
    service.answer("Reload", pb.ReloadResponse())
    service.answer("Watch", synced(1), BROKEN)
    service.answer("Watch", changed(2), Stay())
    service.answer("Hold", held(), Stay())
    service.answer("Pull", pb.PullResponse())
    pool = connect(service.address, token=TOKEN)
    await pool.call("ensure", "m")
    await pool.call("evict", "m")
    await pool.servers()
    await pool.models()
    for method in ("forget", "pin", "describe"):
        await pool.call(method, "m")
    await pool.call("reload")
    await pool.events(2)
    await pool.pulled("m")
    async with pool.hold("m") as hold:
        await hold.ready()
    expected = {rpc: [f"Bearer {TOKEN}"] for rpc in service.asked}
    # Retries show it, too.
    expected["Ensure"] = expected["Watch"] = [f"Bearer {TOKEN}"] * 2
    assert service.shown == expected
    assert len(expected) == 11


async def test_a_client_without_a_token_shows_none(
    connect: Connect, service: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POOL_SERVICE_TOKEN", raising=False)
    monkeypatch.delenv("POOL_SERVICE_TOKEN_FILE", raising=False)
    service.answer("List", pb.ListResponse())
    pool = connect(service.address)
    await pool.servers()
    assert service.shown == {"List": [None]}


async def test_the_variables_stand_in_for_a_token(
    connect: Connect, service: Script, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POOL_SERVICE_TOKEN", raising=False)
    monkeypatch.setenv("POOL_SERVICE_TOKEN_FILE", str(file))
    service.answer("List", pb.ListResponse())
    pool = connect(service.address)
    await pool.servers()
    written(file, OTHER)
    await pool.servers()
    assert service.shown == {"List": [f"Bearer {TOKEN}", f"Bearer {OTHER}"]}
