"""Tries to disturb, read and leave the service and other processes."""

import contextlib
import ctypes
import fcntl
import os
import resource
import signal
import socket
import struct
import subprocess
from pathlib import Path

from tests.confinement.scene import IN_MEMORY, Scene, attempt, call, found, libc


def signalled(scene: Scene) -> bool:
    return bool(scene.signals)


@attempt(signalled)
def signal_the_service(scene: Scene) -> None:
    os.kill(scene.service, signal.SIGUSR1)


@attempt(signalled)
def signal_a_thread_of_the_service(scene: Scene) -> None:
    call(234, 131, scene.service, scene.service, signal.SIGUSR1)


@attempt(signalled)
def signal_by_a_thread_id(scene: Scene) -> None:
    call(200, 130, scene.service, signal.SIGUSR1)


@attempt(signalled)
def signal_by_a_descriptor(scene: Scene) -> None:
    signal.pidfd_send_signal(os.pidfd_open(scene.service), signal.SIGUSR1)  # type: ignore[attr-defined,unused-ignore]


@attempt(signalled)
def signal_with_a_value(scene: Scene) -> None:
    info = struct.pack("iii116x", signal.SIGUSR1, 0, -1)
    call(129, 138, scene.service, signal.SIGUSR1, info)


@attempt(signalled)
def signal_by_an_event(scene: Scene) -> None:
    mine, other = socket.socketpair()
    fcntl.fcntl(mine, fcntl.F_SETOWN, scene.service)
    fcntl.fcntl(mine, fcntl.F_SETFL, os.O_ASYNC)
    other.send(b"x")


@attempt(signalled)
def signal_by_a_helper_program(scene: Scene) -> None:
    subprocess.run(["sh", "-c", f"kill -USR1 {scene.service}"], check=True, stderr=-3)


@attempt()
def read_the_variables_of_the_service(scene: Scene) -> None:
    found(Path(f"/proc/{scene.service}/environ").read_bytes())


@attempt()
def read_the_command_line_of_the_service(scene: Scene) -> None:
    Path(f"/proc/{scene.service}/cmdline").read_bytes()


@attempt()
def read_the_memory_of_the_service(scene: Scene) -> None:
    with Path(f"/proc/{scene.service}/mem").open("rb", buffering=0) as memory:
        memory.seek(ctypes.addressof(scene.memory))
        found(memory.read(100), IN_MEMORY)


@attempt()
def copy_the_memory_of_the_service(scene: Scene) -> None:
    copy = ctypes.create_string_buffer(100)
    ours = struct.pack("PN", ctypes.addressof(copy), 100)
    its = struct.pack("PN", ctypes.addressof(scene.memory), 100)
    call(
        310, 270, scene.service, ours, ctypes.c_ulong(1), its, ctypes.c_ulong(1), ctypes.c_ulong(0)
    )
    found(copy.raw, IN_MEMORY)


@attempt()
def trace_the_service(scene: Scene) -> None:
    nothing = ctypes.c_void_p(0)
    call(101, 117, ctypes.c_long(0x4206), ctypes.c_long(scene.service), nothing, nothing)


@attempt()
def take_a_descriptor_of_the_service(scene: Scene) -> None:
    call(438, 438, os.pidfd_open(scene.service), scene.out, 0)  # type: ignore[attr-defined,unused-ignore]


@attempt()
def open_a_descriptor_of_the_service(scene: Scene) -> None:
    os.open(f"/proc/{scene.service}/fd/{scene.out}", os.O_RDONLY | os.O_NONBLOCK)


@attempt(lambda _: resource.getrlimit(resource.RLIMIT_CORE)[0] == 4096)
def limit_the_service(scene: Scene) -> None:
    resource.prlimit(scene.service, resource.RLIMIT_CORE, (4096, scene.core[1]))  # type: ignore[attr-defined,unused-ignore]


@attempt(lambda _: os.getpriority(os.PRIO_PROCESS, 0) == 19)
def lower_the_priority_of_the_service(scene: Scene) -> None:
    os.setpriority(os.PRIO_PROCESS, scene.service, 19)


@attempt(lambda scene: os.sched_getaffinity(0) != scene.processors)  # type: ignore[attr-defined,unused-ignore]
def take_a_processor_from_the_service(scene: Scene) -> None:
    os.sched_setaffinity(scene.service, {min(scene.processors)})  # type: ignore[attr-defined,unused-ignore]


@attempt()
def attach_shared_memory(scene: Scene) -> None:
    call(30, 196, scene.segment, None, 0)


@attempt()
def leave_the_session(_: Scene) -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(OSError):
            os.setsid()
            os._exit(0)
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError("it could not leave")


@attempt()
def leave_the_group(_: Scene) -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
            os._exit(0)
        os._exit(1)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError("it could not leave")


@attempt()
def become_a_child_of_the_service(_: Scene) -> None:
    nothing = ctypes.c_void_p(0)
    flags = ctypes.c_ulong(0x8000 | signal.SIGCHLD)
    if call(56, 220, flags, nothing, nothing, nothing, nothing) == 0:
        os._exit(0)


@attempt()
def hide_from_the_service(_: Scene) -> None:
    if libc.prctl(4, ctypes.c_ulong(0)):
        raise OSError("it could not hide")


@attempt()
def use_io_uring(_: Scene) -> None:
    call(425, 425, 1, ctypes.create_string_buffer(120))
