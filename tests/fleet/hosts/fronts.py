"""Fronts on the hosts of a network, before members."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pool_service_client import PoolClient
from tests.fleet.hosts.members import FRONT, Credentials, Member
from tests.fleet.hosts.network import Host
from tools.demo.service import STOP_TIMEOUT, ServiceFailedError, command

SOCKET = "front.sock"


@dataclass(frozen=True, slots=True)
class Front:
    """A front that is SERVING, by a unix socket that the tests reach, too."""

    host: Host
    process: "subprocess.Popen[str]"
    log: Path

    def client(self) -> PoolClient:
        """Return a client of the tests; close it."""
        return PoolClient.connect(f"unix:{self.host.directory / SOCKET}")

    def stop(self) -> int:
        """Stop it as an operator would; return its exit code."""
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT)


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """How a front is configured besides its members. program: runs in place of pool-service.

    lines: more of [front]; sections: further ones.
    """

    lines: str = ""
    sections: str = ""
    listen: tuple[str, ...] = ()
    program: tuple[str, ...] = ()


def start_front(
    host: Host,
    members: Sequence[Member],
    credentials: Credentials,
    settings: FrontSettings | None = None,
) -> Front:
    """Start a front on a host and wait until it is SERVING. Raises ServiceFailedError."""
    chosen = settings or FrontSettings()
    addresses = [f"unix:{host.directory / SOCKET}", *chosen.listen]
    listed = "".join(f'{one.host.name} = "{one.address}"\n' for one in members)
    # Without members they are discovered.
    table = f"[members]\n{listed}" if listed else ""
    config, log = host.directory / "fleet.toml", host.directory / "front.log"
    config.write_text(
        f"""
[front]
listen = {addresses}
{chosen.lines}
[member_tls]
ca = "{credentials.ca}"
cert = "{credentials.cert}"
key = "{credentials.key}"
{table}
{chosen.sections}
"""
    )
    with log.open("a") as stderr:
        process = host.popen(
            [*(chosen.program or command()), "fleet", "serve", "--config", str(config)],
            stdout=subprocess.PIPE,
            stderr=stderr.fileno(),
        )
    assert process.stdout is not None
    for _ in addresses:
        if "listening" not in process.stdout.readline():
            raise ServiceFailedError(f"the {FRONT} ended: {log.read_text()}")
    return Front(host, process, log)
