"""The files and sockets of a service, and the tries against them (`tries.py`)."""

import contextlib
import ctypes
import os
import platform
import resource
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

SECRET = b"a secret of the user"
IN_MEMORY = b"a secret in memory, of the service"
MACHINE = platform.machine()
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


class Scene:
    """The files and sockets of the service and its user, as they are before a try."""

    tcp: socket.socket
    udp: socket.socket
    named: socket.socket
    stream: socket.socket
    datagrams: socket.socket
    core: tuple[int, int]
    processors: set[int]

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.key = self.home / ".ssh" / "id_ed25519"
        self.profile = self.home / ".profile"
        self.state = root / "state"
        self.tokens = self.state / "tokens.json"
        self.record = self.state / "servers" / "other.json"
        self.other_log = self.state / "logs" / "other.log"
        self.work = self.state / "work" / "nonce"
        self.model = root / "models" / "own"
        self.config = self.model / "config.json"
        self.other_model = root / "models" / "other" / "model.safetensors"
        self.inside = self.work / "file"
        self.stream_path = self.state / "socket"
        self.datagram_path = self.state / "datagrams"
        self.abstract = f"\0pool-test-{os.getpid()}"
        self.service = os.getpid()
        self.root = root
        self.memory = ctypes.create_string_buffer(IN_MEMORY)
        self.signals: list[int] = []
        self.out, self.report = os.pipe()
        self.segment = -1

    def reset(self) -> None:
        """Write all files as they were, and forget what came."""
        for name in ("home", "state", "models"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        for file in (self.key, self.profile, self.tokens, self.record, self.other_log):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(SECRET)
            file.chmod(0o600)
        for file in (self.config, self.other_model, self.inside):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"{}")
        self.inside.chmod(0o700)
        (self.home / "empty").mkdir()
        self.signals.clear()
        os.sched_setaffinity(0, self.processors)  # type: ignore[attr-defined,unused-ignore]
        resource.setrlimit(resource.RLIMIT_CORE, (0, self.core[1]))

    def listen(self, stack: contextlib.ExitStack) -> None:
        """Open the sockets that nobody is to reach."""
        self.core = resource.getrlimit(resource.RLIMIT_CORE)
        self.processors = os.sched_getaffinity(0)  # type: ignore[attr-defined,unused-ignore]
        self.tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.udp.bind(("127.0.0.1", 0))
        self.named = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.named.bind(self.abstract)
        self.named.listen()
        signal.signal(signal.SIGUSR1, lambda number, _: self.signals.append(number))
        signal.signal(signal.SIGIO, lambda number, _: self.signals.append(number))

    def listen_at_paths(self, stack: contextlib.ExitStack) -> None:
        """Open the sockets with a path, which are new for each try."""
        self.stream = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self.stream.bind(str(self.stream_path))
        self.stream.listen()
        self.datagrams = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.datagrams.bind(str(self.datagram_path))

    @property
    def tcp_address(self) -> tuple[str, int]:
        host, port = self.tcp.getsockname()
        return host, port


Act = Callable[[Scene], object]
Harm = Callable[[Scene], bool]
TRIES: dict[str, tuple[Act, Harm | None]] = {}


def attempt(harm: Harm | None = None) -> Callable[[Act], Act]:
    """Add a try. harm: whether it did harm; None: if its act ended without an error."""

    def add(act: Act) -> Act:
        TRIES[act.__name__] = act, harm
        return act

    return add


def call(x86: int, arm: int, *arguments: object) -> int:
    """Make a system call. Raises OSError."""
    result: int = libc.syscall(ctypes.c_long(x86 if MACHINE == "x86_64" else arm), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def found(content: bytes, what: bytes = SECRET) -> None:
    if what not in content:
        raise OSError("the secret is not in there")
