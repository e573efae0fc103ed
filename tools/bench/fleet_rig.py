"""Fronts and members for the benchmarks of a fleet, on this machine or on hosts of their own.

Hosts are those of `tests/fleet/hosts`, which need root on Linux.
"""

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.certificates import Authority, Issued, dns, ip, uri, written
from tests.fleet.hosts.members import Credentials
from tests.fleet.hosts.network import Host
from tools.bench.size import cpu_of, footprint_of, resident_of
from tools.demo.service import ServiceFailedError, command, running

FAKE = Path("tests/fake_server.py").absolute()
POLL_S = 0.002

MEMBER = """
[service]
standby = 0
[memory]
budget = "none"
reserve = 0
[runtime]
command = [
    {python!r}, "-S", "-E", {fake!r}, "serve", "{{runtime_model}}", "--port", "{{port}}",
    "--host", "{{host}}",
]
kind = "plain"
[defaults]
keep_alive = "forever"
grace_period = 0
[fleet]
name = "{name}"
advertise = "127.0.0.2"
"""


class Popen(Protocol):
    """Starts a program: on this machine, or on a host."""

    def __call__(
        self, arguments: Sequence[str], *, stdout: int, stderr: int | None
    ) -> "subprocess.Popen[str]": ...


def popen_here(
    arguments: Sequence[str], *, stdout: int, stderr: int | None
) -> "subprocess.Popen[str]":
    """Start a program on this machine."""
    return subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True
    )


def popen_on(host: Host) -> Popen:
    """Return what starts programs on a host."""

    def popen(
        arguments: Sequence[str], *, stdout: int, stderr: int | None
    ) -> "subprocess.Popen[str]":
        return host.popen(arguments, None, stdout, stderr)

    return popen


@dataclass(frozen=True, slots=True)
class Front:
    """A front that is SERVING. addresses: where it listens. up_s: from its start until then."""

    process: "subprocess.Popen[str]"
    addresses: tuple[str, ...]
    log: Path
    up_s: float

    @property
    def cpu_ms(self) -> float:
        """Milliseconds of processor that it has used so far."""
        return cpu_of(self.process.pid)

    @property
    def resident_mib(self) -> float:
        """MiB of its process."""
        return resident_of(self.process.pid)

    @property
    def footprint_mib(self) -> float:
        """MiB of its process without pages of files, as a service counts its servers."""
        return footprint_of(self.process.pid)

    def kill(self) -> None:
        """Kill it, as a loss of power would."""
        self.process.kill()
        self.process.wait()


@contextmanager
def front(
    directory: Path,
    members: Mapping[str, str],
    keys: str = "",
    listen: Sequence[str] = ("127.0.0.1:0",),
    popen: Popen = popen_here,
) -> Iterator[Front]:
    """Run a front for as long as the block runs; members: addresses by name; keys: further ones.

    keys begin with those of [front]. Raises ServiceFailedError.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    listed = "".join(f'"{name}" = "{address}"\n' for name, address in members.items())
    config, log = directory / "fleet.toml", directory / "front.log"
    config.write_text(f"[front]\nlisten = {list(listen)!r}\n{keys}\n[members]\n{listed}")
    began = time.perf_counter()
    with log.open("w") as stderr:
        process = popen(
            command("fleet", "serve", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=stderr.fileno(),
        )
    with ended(process):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in listen]
        up_s = time.perf_counter() - began
        if not all(line.startswith("listening on ") for line in lines):
            raise ServiceFailedError(f"the front did not start:\n{log.read_text()}")
        addresses = tuple(line.removeprefix("listening on ").strip() for line in lines)
        yield Front(process, addresses, log, up_s)


@contextmanager
def ended(process: "subprocess.Popen[str]") -> Iterator[None]:
    """End a process after the block."""
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


@contextmanager
def members_here(directory: Path, names: Sequence[str], keys: str = "") -> Iterator[dict[str, str]]:
    """Run members on this machine, with servers on another address of loopback.

    Returns their addresses by name. keys: further sections of their configurations.
    """
    with ExitStack() as stack:
        addresses = {}
        for name in names:
            config = directory / f"{name}.toml"
            config.write_text(
                MEMBER.format(python=sys.executable, fake=str(FAKE), name=name) + keys
            )
            state = directory / f"state-{name}"
            service = stack.enter_context(running(state, arguments=["--config", str(config)]))
            addresses[name] = service.address
        yield addresses


def front_keys(credentials: Credentials) -> str:
    """Return the sections with which a front calls members on other hosts."""
    return (
        f'[member_tls]\nca = "{credentials.ca}"\ncert = "{credentials.cert}"\n'
        f'key = "{credentials.key}"\n'
    )


def issue_to(authority: Authority, host: Host) -> Path:
    """Write service.pem, service.key and ca.pem of a host; return their directory."""
    written(host.directory / "ca.pem", authority.certificate)
    authority.issue(dns(host.name), ip(host.address)).write(host.directory, "service")
    return host.directory


def credentials_of(authority: Authority, directory: Path, name: str, san: str) -> Credentials:
    """Write the certificate of a caller; return where its files are."""
    issued: Issued = authority.issue(uri(san))
    ca = written(directory / f"{name}-ca.pem", authority.certificate)
    return Credentials(ca, *issued.write(directory, name))


def await_line(log: Path, text: str, skip: int, limit_s: float = 60.0) -> None:
    """Wait for a line in a log; skip: the bytes of it that are older. Raises TimeoutError."""
    limit = time.monotonic() + limit_s
    while text not in log.read_bytes()[skip:].decode(errors="replace"):
        if time.monotonic() > limit:
            raise TimeoutError(f"{log} has no {text!r}:\n{log.read_text()}")
        time.sleep(POLL_S)
