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


def start_front(
    host: Host, members: Sequence[Member], credentials: Credentials, keys: str = ""
) -> Front:
    """Start a front on a host and wait until it is SERVING. Raises ServiceFailedError.

    keys: further lines of its section [front].
    """
    listed = "".join(f'{one.host.name} = "{one.address}"\n' for one in members)
    config, log = host.directory / "fleet.toml", host.directory / "front.log"
    config.write_text(
        f"""
[front]
listen = ["unix:{host.directory / SOCKET}"]
{keys}
[member_tls]
ca = "{credentials.ca}"
cert = "{credentials.cert}"
key = "{credentials.key}"
[members]
{listed}
"""
    )
    with log.open("a") as stderr:
        process = host.popen(
            command("fleet", "serve", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=stderr.fileno(),
        )
    assert process.stdout is not None
    if "listening" not in process.stdout.readline():
        raise ServiceFailedError(f"the {FRONT} ended: {log.read_text()}")
    return Front(host, process, log)
