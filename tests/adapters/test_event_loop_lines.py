"""Claims about programs that write what nobody expects."""

import asyncio
import json
import socket

import pytest

from pool_service.adapters.models.download import _Download, _follow
from pool_service.adapters.probe.ready_notify import _is_ready
from pool_service.adapters.standby.process import Standby, StandbySpec
from pool_service.adapters.system.event_loop import MAX_LINE_BYTES, lines_of
from pool_service.core.types import Identity


def stream(content: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(content)
    reader.feed_eof()
    return reader


async def test_lines_come_one_by_one_and_the_last_needs_no_end() -> None:
    assert [line async for line in lines_of(stream(b"a\n\nb\nc"))] == [b"a", b"", b"b", b"c"]


async def test_of_a_line_without_an_end_no_more_is_kept_than_a_line_may_have() -> None:
    lines = [line async for line in lines_of(stream(b"x" * 10 * MAX_LINE_BYTES + b"\nnext\n"))]
    assert len(lines[0]) <= 2 * MAX_LINE_BYTES
    assert lines[1] == b"next"


async def test_while_a_program_writes_without_end_others_have_their_turn() -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    async for _ in lines_of(stream(b"\n" * 1_000_000)):
        pass
    other.cancel()
    assert turns > 10


class Ended:
    """A program that has written this and ended."""

    def __init__(self, content: bytes) -> None:
        self.stdout = stream(content)


@pytest.mark.parametrize(
    "noise",
    [
        b"a warning",
        b"7",
        b"[]",
        b'{"done": 1}',
        b'{"done": "x", "total": 2}',
        b"[" * 60_000,
        b"\xff",
    ],
)
async def test_what_a_library_prints_does_not_break_a_download(noise: bytes) -> None:
    told: list[tuple[int, int]] = []
    download = _Download(watchers=[lambda done, total: told.append((done, total))])
    content = b'{"done": 1, "total": 2}\n' + noise + b'\n{"ok": true}\n'
    assert await _follow(Ended(content), download) == {"ok": True}  # type: ignore[arg-type]
    assert told == [(1, 2)]


@pytest.mark.parametrize("said", [b"[" * 4096, b"7", b"\xff", b"", b"{"])
def test_a_sign_that_nobody_understands_is_none(said: bytes) -> None:
    assert not _is_ready(said)


def waiting(channel: socket.socket) -> Standby:
    return Standby(
        StandbySpec("program", ()),
        "nonce",
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
        Identity(7, 7, "boot"),
        channel,
        None,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "said",
    [b"[" * 60_000 + b"\n", b"7\n", b'{"stamps": 7}\n', b"no JSON\n", b"x" * 70_000],
    ids=["deep", "a number", "wrong stamps", "junk", "no end"],
)
def test_a_standby_that_says_what_none_of_ours_does_is_given_up(said: bytes) -> None:
    ours, its = socket.socketpair()
    with ours, its:
        its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1_000_000)
        one = waiting(ours)
        its.sendall(said)

        def hear_all() -> None:
            while True:
                one.receive()

        with pytest.raises(ValueError, match=r"."):
            hear_all()


def test_a_standby_that_talks_for_ever_does_not_take_its_arguments_for_ever() -> None:
    ours, its = socket.socketpair()
    with ours, its, open("/dev/null", "wb") as log:  # noqa: PTH123
        its.sendall(b"".join(json.dumps({"warm": True}).encode() + b"\n" for _ in range(100)))
        assert not waiting(ours).send_arguments(("argument",), log.fileno(), 0.1)
