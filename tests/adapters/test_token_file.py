"""The file of tokens: changes are whole, and a running service follows them."""

import json
import os
import threading
from pathlib import Path

import pytest
import structlog

from pool_service.access import tokens
from pool_service.access.clients import Client
from pool_service.access.principal import Principal, Scope
from pool_service.access.token_records import TokenFileInvalid, TokenRecord
from pool_service.adapters.access import token_file
from pool_service.adapters.access.token_file import TokenFile, changing, read

LIMIT_S = 60.0


def record(name: str) -> TokenRecord:
    digest = tokens.digest(tokens.new_token())
    return TokenRecord(Client(Principal(name, Scope.USE), digest), 1.0)


def add(path: Path, *names: str) -> None:
    with changing(path) as records:
        records.extend(map(record, names))


def fail_to_change(path: Path) -> None:
    with changing(path) as records:
        records.clear()
        raise KeyError


def names(path: Path) -> list[str]:
    return [one.client.principal.name for one in read(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "tokens.json"


def test_without_a_file_there_are_no_tokens(path: Path) -> None:
    assert read(path) == ()


def test_a_change_makes_the_directory_and_a_file_of_the_users_own(path: Path) -> None:
    add(path, "a")
    assert names(path) == ["a"]
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "pst_" not in path.read_text()


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    add(path, "a")
    with pytest.raises(KeyError):
        fail_to_change(path)
    assert names(path) == ["a"]


def test_changes_at_the_same_time_lose_nothing(path: Path) -> None:
    count = 20
    threads = [threading.Thread(target=add, args=(path, f"n{number}")) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert sorted(names(path)) == sorted(f"n{number}" for number in range(count))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"{}", "version"),
        (b" " * (token_file.MAX_BYTES + 1), "more than"),
    ],
    ids=["cut off", "no text", "too deep", "another form", "too large"],
)
def test_what_is_no_file_of_tokens_is_told_and_kept(path: Path, content: bytes, told: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(TokenFileInvalid, match=told):
        read(path)
    with pytest.raises(TokenFileInvalid, match=told):
        add(path, "a")
    assert path.read_bytes() == content


def test_a_file_that_others_may_read_is_refused_with_what_to_do(path: Path) -> None:
    add(path, "a")
    path.chmod(0o640)
    with pytest.raises(TokenFileInvalid, match="chmod 600"):
        read(path)


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    add(tmp_path / "others.json", "a")
    path.parent.mkdir()
    path.symlink_to(tmp_path / "others.json")
    with pytest.raises(TokenFileInvalid, match="regular file"):
        read(path)


def content_of(path: Path) -> str:
    return path.read_text()


def put(path: Path, content: str, mode: int = 0o600) -> None:
    path.write_text(content)
    path.chmod(mode)


def remove(path: Path) -> None:
    path.unlink()


# --- following ----------------------------------------------------------------------------


class Followed:
    """A file of tokens that is looked at again at every refresh, and what was told of it."""

    def __init__(self, path: Path) -> None:
        self.told: list[list[str]] = []
        self.file = TokenFile(path, self._apply)

    def _apply(self, clients: tuple[Client, ...]) -> None:
        self.told.append([client.principal.name for client in clients])


@pytest.fixture
def followed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Followed:
    monkeypatch.setattr(token_file, "CHECK_INTERVAL_S", 0.0)
    return Followed(path)


async def test_changes_of_the_file_are_applied_and_nothing_else_is(
    followed: Followed, path: Path
) -> None:
    await followed.file.refresh()
    assert followed.told == [[]]
    add(path, "a")
    for _ in range(3):
        await followed.file.refresh()
    add(path, "b")
    await followed.file.refresh()
    remove(path)
    await followed.file.refresh()
    assert followed.told == [[], ["a"], ["a", "b"], []]


async def test_a_file_that_cannot_be_read_lets_nobody_in_and_is_told_once(
    followed: Followed, path: Path
) -> None:
    add(path, "a")
    await followed.file.refresh()
    sound = content_of(path)
    with structlog.testing.capture_logs() as logs:
        put(path, json.dumps({"version": 99}))
        for _ in range(3):
            await followed.file.refresh()
        put(path, sound, 0o644)
        await followed.file.refresh()
        put(path, sound)
        await followed.file.refresh()
    assert followed.told == [["a"], [], [], ["a"]]
    assert len(logs) == 2


async def test_the_file_is_looked_at_once_within_an_interval(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_file, "CHECK_INTERVAL_S", 3600.0)
    followed = Followed(path)
    await followed.file.refresh()
    add(path, "a")
    await followed.file.refresh()
    assert followed.told == [[]]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not hold root back")
async def test_a_directory_that_may_not_be_searched_lets_nobody_in(
    followed: Followed, path: Path
) -> None:
    add(path, "a")
    await followed.file.refresh()
    os.chmod(path.parent, 0o000)  # noqa: PTH101
    try:
        await followed.file.refresh()
    finally:
        os.chmod(path.parent, 0o700)  # noqa: PTH101
    assert followed.told == [["a"], []]
