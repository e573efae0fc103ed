"""macOS's branches of what looks at processes, run on Linux over a libproc that tells from /proc.

They are ctypes over structures of the kernel: no type checker sees a wrong offset in them.
"""

import asyncio
import ctypes
import errno
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from pool_service.adapters.process import leftover_processes
from pool_service.adapters.process.exits import PollWatch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.leftover_processes import ProcessTree, end_descendants

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="tells from /proc"),
]

ADAPTERS = Path(leftover_processes.__file__).parents[1]
BOOT = "0F2B7A30-2E5C-4D6B-9C0E-6E6B1F0C9A11"


@pytest.fixture
def as_on_macos(libproc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def load(name: str | None, *arguments: Any, **named: Any) -> ctypes.CDLL:  # noqa: ANN401
        assert name == "/usr/lib/libproc.dylib"
        return libproc

    monkeypatch.setattr(ctypes, "CDLL", load)
    monkeypatch.setattr(sys, "platform", "darwin")
    yield
    libproc.set_exiting(0)
    libproc.set_refused(0, 0)


def module(name: str) -> ModuleType:
    """One of ours, made anew as on this platform."""
    path = ADAPTERS / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{path.stem}_of_macos", path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.fixture
def identity(as_on_macos: None, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: ANN401
    def sysctl(command: tuple[str, ...], **_named: object) -> SimpleNamespace:
        assert command == ("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid")
        return SimpleNamespace(stdout=f"{BOOT}\n")

    made = module("process/identity")
    monkeypatch.setattr(made, "subprocess", SimpleNamespace(run=sysctl))
    return made


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    pipe = subprocess.PIPE
    with subprocess.Popen(["/bin/cat"], stdin=pipe, stdout=pipe, env={"A": "b"}) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # What it says shows that it has become another program, whose environment can be seen.
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.read(1)
        yield process
        process.kill()


Child = subprocess.Popen[bytes]


def test_a_process_is_known_by_its_start_and_the_boot(identity: Any, child: Child) -> None:  # noqa: ANN401
    found = identity.identity_of(child.pid)
    assert found.boot_id == BOOT
    ticks = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    assert found.start_time == ticks * 10_000
    assert identity.is_alive(found)
    assert identity.variable_of(child.pid, "A") == "b"


def test_a_zombie_has_an_identity_and_is_not_alive(identity: Any, child: Child) -> None:  # noqa: ANN401
    found = identity.identity_of(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined,unused-ignore]
    assert identity.identity_of(child.pid) == found
    assert not identity.is_alive(found)


def test_one_that_is_exiting_and_no_zombie_yet_is_not_alive(
    identity: Any,  # noqa: ANN401
    libproc: ctypes.CDLL,
    child: Child,
) -> None:
    found = identity.identity_of(child.pid)
    libproc.set_exiting(child.pid)
    assert identity.identity_of(child.pid) == found
    assert not identity.is_alive(found)


def test_one_that_was_reaped_is_nobody(identity: Any, child: Child) -> None:  # noqa: ANN401
    found = identity.identity_of(child.pid)
    child.kill()
    child.wait()
    assert identity.identity_of(child.pid) is None
    assert not identity.is_alive(found)


def test_another_users_process_is_none_of_ours(
    identity: Any,  # noqa: ANN401
    libproc: ctypes.CDLL,
    child: Child,
) -> None:
    libproc.set_refused(child.pid, errno.EPERM)
    assert identity.identity_of(child.pid) is None


def test_a_look_for_which_there_is_no_memory_tells_nothing_of_the_process(
    identity: Any,  # noqa: ANN401
    libproc: ctypes.CDLL,
    child: Child,
) -> None:
    libproc.set_refused(child.pid, errno.ENOMEM)
    with pytest.raises(OSError, match="Cannot allocate"):
        identity.identity_of(child.pid)


@pytest.mark.usefixtures("as_on_macos")
def test_a_footprint_is_what_the_kernel_holds_against_the_process(child: Child) -> None:
    child.send_signal(signal.SIGSTOP)  # else it grows while its program is loaded
    os.waitid(os.P_PID, child.pid, os.WSTOPPED)  # type: ignore[attr-defined,unused-ignore]
    kilobytes = [
        int(line.split()[1])
        for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
        if line.startswith("RssAnon:")
    ]
    assert module("memory/footprint").of_process(child.pid) == kilobytes[0] * 1024


async def test_who_is_exiting_is_not_killed_over_and_over(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is told of, so that nothing waits for it, and it is still found as if it lived."""
    found = identity_of(child.pid)
    assert found is not None
    looks = 0

    def survivors(_tree: ProcessTree) -> frozenset[object]:
        nonlocal looks
        looks += 1
        return frozenset({found})

    monkeypatch.setattr(leftover_processes, "survivors", survivors)
    monkeypatch.setattr(leftover_processes, "_signalled", lambda *_: True)
    child.send_signal(signal.SIGKILL)
    await wait_for_exit(PollWatch(), found)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await end_descendants(PollWatch(), ProcessTree(None, "nonce"), 0.0)
    assert looks < 60
