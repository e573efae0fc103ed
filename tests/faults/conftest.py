"""The frame of the fault tests: a service to torment, and the table of what became of it.

Each test carries `@pytest.mark.fault("the fault in short")` and lives on a bench: `fake` is a
service whose runtime is the fake server, `real` one whose runtime is the real vllm-mlx. After
each test the invariants are checked of every service that is still there.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pool_service_client import PoolClient, RetryPolicy
from tests.faults.invariants import Invariants
from tests.faults.table import Recovery, Table
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.service import RunningService, running

ONCE = RetryPolicy(patience=0)
"""A client that tells of each failure instead of trying again."""

TABLE = Table()
"""Of this run: the hook that hears of outcomes is not told of which configuration."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service under torment, a client of it that never retries, and its watcher."""

    running: RunningService
    pool: PoolClient
    invariants: Invariants

    @property
    def pid(self) -> int:
        """Its process."""
        return self.running.process.pid

    @property
    def state_dir(self) -> Path:
        """Where it keeps its state."""
        return self.running.log.parent


Start = Callable[..., Service]


@contextlib.contextmanager
def _starting(tmp_path: Path, usual_runtime: str) -> Iterator[Start]:
    """start(config, name, arguments, runtime): a service by the runtime's section and config."""
    services: list[Service] = []
    with ExitStack() as stack:

        def start(
            config: str = "",
            name: str = "state",
            arguments: Sequence[str] = (),
            runtime: str = usual_runtime,
        ) -> Service:
            path = tmp_path / f"{name}.toml"
            path.write_text(runtime + config)
            options = ["--config", str(path), *arguments]
            one = stack.enter_context(running(tmp_path / name, arguments=options))
            pool = stack.enter_context(PoolClient.connect(one.address, retry=ONCE))
            watcher = stack.enter_context(Invariants.of(one))
            service = Service(one, pool, watcher)
            services.append(service)
            return service

        yield start
        for service in services:
            if service.running.process.poll() is None:
                service.invariants.check()


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Start]:
    """Starts services whose runtime is the fake server; `x?flag=value` says how it behaves."""
    with _starting(tmp_path, FAKE_RUNTIME) as start:
        yield start


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Start]:
    """Starts services whose runtime is the real vllm-mlx."""
    with _starting(tmp_path, "") as start:
        yield start


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that the real runtime loads at once."""
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_llama(directory)
    return str(directory)


@pytest.fixture
def recovered(request: pytest.FixtureRequest) -> Recovery:
    """Notes for the table how many seconds it took from a fault until all was whole again."""
    return TABLE.recovery_of(request.node.nodeid)


# --- the table -------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-table", metavar="PATH", help="write the faults' table as Markdown")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name): the fault that a test is about, in short")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        marker = item.get_closest_marker("fault")
        if marker is None or not marker.args:
            raise pytest.UsageError(f'{item.nodeid}: which fault? Mark it with fault("...")')
        if not any(item.iter_markers("whole")) and not any(item.iter_markers("process")):
            needs_real = "real" in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.whole if needs_real else pytest.mark.process)
        is_real = any(item.iter_markers("whole"))
        TABLE.expect(item.nodeid, marker.args[0], "real" if is_real else "fake")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    TABLE.note(report)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not TABLE.rows:
        return
    terminalreporter.section("faults")
    terminalreporter.write_line(TABLE.as_text())
    path = config.getoption("--fault-table", None)
    if path:
        Path(path).write_text(TABLE.as_markdown())
