"""A fleet on loopback: members and a front as they are run, over the fake server.

A member that is killed is not a host that is lost: its servers go on, without anybody.
"""

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pool_service_client import PoolClient
from tests.service.conftest import FAKE_RUNTIME
from tests.service.metrics import SERVING
from tools.demo.service import RunningService, ServiceFailedError, command, running

HOSTS = ("mini", "studio")
MODELS = tuple(f"org/m{number}" for number in range(4))
STOP_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class LoopbackFleet:
    """Members that are SERVING, and a front that is. members: by the names of their hosts."""

    members: dict[str, RunningService]
    address: str
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def http(self) -> str:
        """Where the front says that it serves metrics and the page."""
        found = SERVING.search(self.log.read_text())
        assert found is not None, self.log.read_text()
        return found[1]

    def client(self) -> PoolClient:
        """Return a client of the front; close it."""
        return PoolClient.connect(self.address)


def member_config(name: str, more: str = "") -> str:
    """Return the configuration of a member whose servers the whole fleet reaches."""
    models = "".join(
        f'[models."{model}"]\nruntime_model = "fake/{model[4:]}"\nexpected_memory = "100 MiB"\n'
        for model in MODELS
    )
    own = f'[fleet]\nname = "{name}"\nadvertise = "127.0.0.1"\n'
    budget = '[memory]\nbudget = "1000 MiB"\nreserve = "0 MB"\n'
    return f"{FAKE_RUNTIME}[service]\nstandby = 0\n{budget}{own}{models}{more}"


@contextmanager
def loopback_fleet(directory: Path, more: str = "") -> Iterator[LoopbackFleet]:
    """Run members and a front for as long as the block runs.

    more: of the front's configuration. Raises ServiceFailedError.
    """
    with ExitStack() as stack:
        members = {}
        for name in HOSTS:
            config = directory / f"{name}.toml"
            config.write_text(member_config(name))
            arguments = ["--config", str(config)]
            members[name] = stack.enter_context(running(directory / name, arguments=arguments))
        yield stack.enter_context(_front(directory, members, more))


@contextmanager
def _front(
    directory: Path, members: dict[str, RunningService], more: str
) -> Iterator[LoopbackFleet]:
    listed = "".join(f'{name} = "{one.address}"\n' for name, one in members.items())
    config, log = directory / "fleet.toml", directory / "front.log"
    config.write_text(f'[front]\nlisten = ["127.0.0.1:0"]\n[members]\n{listed}{more}')
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command("fleet", "serve", "--config", str(config)),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                raise ServiceFailedError(f"the front did not start:\n{log.read_text()}")
            address = line.removeprefix("listening on ").strip()
            yield LoopbackFleet(members, address, process, log)
        finally:
            process.terminate()
            process.wait(STOP_TIMEOUT_S)
