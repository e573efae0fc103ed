"""Pool services on the hosts of a network, which fronts call by TLS with certificates."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import grpc
from cryptography import x509

from pool_service_client import PoolClient
from tests.certificates import Authority, dns, ip, uri, written
from tests.fleet.hosts.network import ROOT, Host
from tools.demo.service import STOP_TIMEOUT, ServiceFailedError, command

FAKE = ROOT / "tests" / "fake_server.py"

PORT = 7000
"""Where a member listens for fronts, at the address of its host."""

LOCAL = "127.0.0.1:7001"
"""Where a member listens for callers of its own host, who may do everything."""

FRONT = "front"
"""The front that there is if a test needs no second one."""

_REACHES = """
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1] + "/health", timeout=float(sys.argv[2])).status)
"""


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """How a member is configured.

    models: the memory that each is expected to take; flags: how their servers behave (see
    tests/fake_server.py); kind: of the runtime: a plain one tells nothing of its use; servers_at:
    the address at which servers of a plain one listen, "" for that of the host; fronts: their
    names; client: more lines for the section of each; more: further sections.
    """

    budget: str = "1000 MiB"
    models: Mapping[str, str] = field(default_factory=dict)
    flags: str = "load=0.2"
    fronts: tuple[str, ...] = (FRONT,)
    client: str = ""
    kind: Literal["plain", "vllm-mlx"] = "plain"
    servers_at: str = ""
    more: str = ""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows and trusts, in files that it can read on each host."""

    ca: Path
    cert: Path
    key: Path

    @property
    def of_channel(self) -> grpc.ChannelCredentials:
        """The same, for a channel."""
        files = (self.ca, self.key, self.cert)
        return grpc.ssl_channel_credentials(*(path.read_bytes() for path in files))

    @property
    def of_command(self) -> list[str]:
        """The same, as options of commands."""
        return ["--ca", str(self.ca), "--cert", str(self.cert), "--key", str(self.key)]


@dataclass(frozen=True, slots=True)
class Member:
    """A pool service that is SERVING. address: by which fronts reach it."""

    host: Host
    process: "subprocess.Popen[str]"
    log: Path
    credentials: Mapping[str, Credentials]

    @property
    def address(self) -> str:
        return f"{self.host.address}:{PORT}"

    def channel(self, front: str = FRONT) -> grpc.Channel:
        """Return a channel of the tests, with the certificate of a front; close it."""
        # Of its own, so that no connection of another channel is used.
        own = (("grpc.use_local_subchannel_pool", 1),)
        return grpc.secure_channel(self.address, self.credentials[front].of_channel, own)

    def client(self, front: str = FRONT) -> PoolClient:
        """Return a client of the tests, with the certificate of a front; close it."""
        shown = self.credentials[front]
        return PoolClient.connect(self.address, ca=shown.ca, cert=shown.cert, key=shown.key)

    def command(
        self, caller: Host, *arguments: str, front: str = FRONT
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command of pool-service on a host, with the certificate of a front."""
        shown = self.credentials[front].of_command
        return caller.run(*command("--address", self.address, *shown, *arguments))

    def local_command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of pool-service on its own host, as its user."""
        return self.host.run(*command("--address", LOCAL, *arguments))

    def stop(self) -> int:
        """Stop it as an operator would; return its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)


class Members:
    """Starts members that trust one authority, and has the certificates of fronts.

    directory: for certificates, which all hosts can read.
    """

    def __init__(self, directory: Path, fronts: tuple[str, ...] = (FRONT,)) -> None:
        self.authority = Authority("fleet")
        self._directory = directory
        self._ca = written(directory / "fleet-ca.pem", self.authority.certificate)
        self.credentials = {front: self._issued(front) for front in fronts}

    def start(self, host: Host, settings: MemberSettings | None = None, *arguments: str) -> Member:
        """Start a member on a host and wait until it is SERVING. Raises ServiceFailedError.

        arguments: more of them for `pool-service serve`, such as "--replace".
        """
        self.issue_to(host)
        config = host.directory / "pool.toml"
        config.write_text(configuration(host, self._ca, settings or MemberSettings()))
        state, log = host.directory / "state", host.directory / "service.log"
        words = ("serve", "--config", str(config), "--state-dir", str(state), *arguments)
        with log.open("a") as stderr:
            process = host.popen(command(*words), stdout=subprocess.PIPE, stderr=stderr.fileno())
        assert process.stdout is not None
        # One line for each address, once it is SERVING.
        for _ in range(2):
            if not process.stdout.readline().startswith("listening on "):
                raise ServiceFailedError(f"{host.name} has no member:\n{log.read_text()}")
        return Member(host, process, log, self.credentials)

    def _issued(self, front: str) -> Credentials:
        pair = self.authority.issue(uri(san_of(front))).write(self._directory, front)
        return Credentials(self._ca, *pair)

    def issue(self, host: Host, *names: x509.GeneralName) -> None:
        """Give a host a certificate of these names instead of that of its own ones."""
        self.authority.issue(*names).write(host.directory, "member")

    def issue_to(self, host: Host) -> None:
        """Give a host a certificate, in member.pem and member.key, unless it has one."""
        if not (host.directory / "member.pem").exists():
            self.issue(host, dns(host.name), ip(host.address))


def san_of(front: str) -> str:
    """Return the name that the certificate of a front has."""
    return f"spiffe://fleet/{front}"


def configuration(host: Host, ca: Path, settings: MemberSettings) -> str:
    """Return the configuration of a member."""
    server = [sys.executable, "-S", "-E", str(FAKE), "serve", "{runtime_model}", "--port", "{port}"]
    if settings.kind == "plain":
        server += ["--host", settings.servers_at or host.address]
    models = "".join(
        f"""
[models."{name}"]
runtime_model = "{name}?{settings.flags}"
expected_memory = "{memory}"
"""
        for name, memory in settings.models.items()
    )
    fronts = "".join(
        f"""
[clients."{name}"]
san = "{san_of(name)}"
scope = "admin"
logs = true
{settings.client}
"""
        for name in settings.fronts
    )
    return f"""
[service]
listen = ["{host.address}:{PORT}", "{LOCAL}"]
standby = 0
[memory]
budget = "{settings.budget}"
reserve = "0 MB"
[tls]
cert = "{host.directory}/member.pem"
key = "{host.directory}/member.key"
client_ca = "{ca}"
[runtime]
kind = "{settings.kind}"
command = {server}
{fronts}{models}{settings.more}
"""


def reaches(caller: Host, endpoint: str, limit_s: float = 5.0) -> bool:
    """Return whether a program on a host gets an answer from the server at an endpoint."""
    done = caller.run(sys.executable, "-S", "-E", "-c", _REACHES, endpoint, str(limit_s))
    return done.returncode == 0
