"""One standby: its start, its messages and its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE, work_dirs
from pool_service.adapters.standby import process
from pool_service.adapters.standby.process import Standby, StandbySpec, launch
from pool_service.adapters.system import proc_file, process_settings
from pool_service.core.types import Identity
from tests.adapters.descriptor_limits import descriptor_limits
from tests.adapters.light_standby import Kept


def standby(kept: Kept, **environment: str) -> Standby:
    one = launch(kept.spec(environment), kept.state_dir)
    assert one is not None
    return one


async def test_a_standby_leads_a_session_in_its_own_directory_and_carries_its_nonce(
    kept: Kept,
) -> None:
    one = standby(kept)
    assert os.getsid(one.identity.pid) == one.identity.pid
    assert one.identity == identity_of(one.popen.pid)
    while not one.is_warm:
        one.receive()
    with suppress(OSError):
        environ = proc_file.read_file(f"/proc/{one.identity.pid}/environ")
        assert f"{NONCE_VARIABLE}={one.nonce}".encode() in environ
    assert one.work_dir.is_dir()
    assert one.end() == ""
    assert one.popen.returncode == 0, "it ended by itself"
    assert not one.work_dir.exists()
    assert one.output.closed


async def test_one_that_does_not_end_by_itself_is_killed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    one = standby(kept, DOES="stays")
    while not one.is_warm:
        one.receive()
    one.end()
    assert one.popen.returncode == -signal.SIGKILL


@pytest.mark.parametrize(("size", "shown"), [(10, 10), (2000, 2000), (2001, 2000)])
async def test_the_end_of_what_it_wrote_is_returned(kept: Kept, size: int, shown: int) -> None:
    one = standby(kept)
    os.write(one.output.fileno(), b"a" + b"x" * (size - 1))
    wrote = one.end()
    assert len(wrote) == shown
    assert wrote.startswith("a") is (size <= 2000)


@pytest.mark.parametrize(
    ("line", "is_message"),
    [
        (b"{}", True),
        (b'{"stamps": {}, "working_set": 7}', True),
        (b"7", False),
        (b'{"stamps": []}', False),
        (b'{"working_set": "7"}', False),
        (b"junk", False),
        (b"[" * 60_000, False),
    ],
)
def test_a_message_is_an_object_of_what_is_known(line: bytes, is_message: bool) -> None:
    if is_message:
        assert process._message(line) == json.loads(line)
    else:
        with pytest.raises(ValueError, match=r"."):
            process._message(line)


def test_a_place_that_was_changed_or_is_gone_makes_a_standby_outdated(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    stamp = file.stat().st_mtime_ns
    assert not process._changed(str(file), stamp)
    assert process._changed(str(file), stamp + 1)
    assert process._changed(str(tmp_path / "gone"), stamp)


def test_a_program_that_is_no_usual_script_has_no_standby(tmp_path: Path) -> None:
    program = tmp_path / "vllm-mlx"
    program.write_text("#!/bin/sh\nexec true\n")
    assert launch(StandbySpec(str(program), ()), tmp_path / "state") is None
    assert not (tmp_path / "state").exists()


async def test_what_is_short_when_it_begins_leaves_nothing(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError("no processes")

    monkeypatch.setattr(subprocess, "Popen", refused)
    before = os.dup(0)
    os.close(before)
    with pytest.raises(OSError, match="no processes"):
        launch(kept.spec(), kept.state_dir)
    after = os.dup(0)
    os.close(after)
    assert after == before
    assert list(work_dirs(kept.state_dir).iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
async def test_a_standby_has_the_limits_that_the_service_was_started_with(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_settings, "_given_descriptors", (100, 200))
    one = standby(kept)
    assert descriptor_limits(one.popen.pid) == (100, 200)
    one.end()


async def test_a_standby_that_does_not_accept_its_arguments_in_time_is_told_as_that(
    kept: Kept,
) -> None:
    one = standby(kept, DOES="stays")
    while not one.is_warm:
        one.receive()
    assert not one.send_arguments(("argument",), one.output.fileno(), 0.05)
    one.popen.kill()
    one.end()


def connected(channel: socket.socket) -> Standby:
    """A standby of which there is only the channel."""
    nothing: Any = None
    identity = Identity(7, 7, "boot")
    return Standby(StandbySpec("p", ()), "nonce", nothing, nothing, identity, channel, nothing)


def test_arguments_longer_than_a_sockets_buffer_arrive_whole() -> None:
    ours, its = socket.socketpair()
    received = bytearray()

    def read() -> None:
        while not received.endswith(b"\n"):
            received.extend(its.recv(65536))
        its.sendall(b'{"taken": true}\n')

    argv = ("x" * 1_000_000,)
    with ours, its:
        reader = threading.Thread(target=read)
        reader.start()
        assert connected(ours).send_arguments(argv, 0, 60.0, key="psk_x")
        reader.join()
    assert json.loads(received) == {
        "argv": list(argv),
        "variables": {},
        "key": "psk_x",
        "sandbox": None,
    }


def test_a_standby_may_say_something_else_before_it_takes_its_arguments() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        its.sendall(b'{"warm": true}\n')
        answer = threading.Timer(0.05, its.sendall, [b'{"taken": true}\n'])
        answer.start()
        assert connected(ours).send_arguments(("argument",), 0, 60.0)
        answer.join()


def test_a_standby_that_says_one_thing_after_another_has_no_more_time_for_that() -> None:
    ours, its = socket.socketpair()
    one = connected(ours)

    def talk() -> None:
        with suppress(OSError):
            while True:
                its.sendall(b'{"warm": true}\n')

    with its:
        talker = threading.Thread(target=talk)
        talker.start()
        assert not one.send_arguments(("argument",), 0, 0.05)
        ours.close()
        talker.join()
    assert not one.has_failed, "only slow"
