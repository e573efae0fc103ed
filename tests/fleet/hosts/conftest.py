"""Marks the tests of fleets, which need root on Linux, and makes their networks."""

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.table import Recovery, Table
from tests.fleet.hosts.fleets import Fleet, Setup
from tests.fleet.hosts.namespaces import new_network
from tests.fleet.hosts.network import Network

TABLE = Table()
"""Of the failures of this run, as that of tests/faults."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fleet-fault-table", metavar="PATH", help="write the failures' table as Markdown"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(name): the fault that a test is about, in short")


def missing() -> str:
    """Return what a root of Linux lacks for these tests."""
    if shutil.which("ip") is None:
        return "there is no ip (Debian: iproute2)"
    try:
        os.close(new_network())
    except OSError as error:
        return f"this root may not make network namespaces: {error}"
    return ""


def reason_to_skip() -> str:
    """Return why these tests are skipped, if they are."""
    if platform.system() != "Linux" or os.getuid() != 0:
        return "needs root on Linux"
    return "" if os.environ.get("CI") else missing()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    reason = reason_to_skip() if ours else ""
    for item in ours:
        item.add_marker(pytest.mark.process)
        item.add_marker(pytest.mark.long)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))
        if (marker := item.get_closest_marker("fault")) is not None:
            TABLE.expect(item.nodeid, _fault(item, marker), marker.kwargs.get("bench", "one front"))


def _fault(item: pytest.Item, marker: pytest.Mark) -> str:
    """Return the fault of a test, with the case that is meant if there are several."""
    case = item.name.partition("[")[2].removesuffix("]")
    return f"{marker.args[0]}: {case}" if case else str(marker.args[0])


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    TABLE.note(report)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not TABLE.rows:
        return
    terminalreporter.section("failures of fleets")
    terminalreporter.write_line(TABLE.as_text())
    path = config.getoption("--fleet-fault-table", None)
    if path:
        Path(path).write_text(TABLE.as_markdown())


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network without hosts."""
    with Network(tmp_path) as one:
        yield one


@pytest.fixture
def start(network: Network, tmp_path: Path) -> Iterator[Callable[[Setup], Fleet]]:
    """start(setup): a fleet of three members and one front."""
    with ExitStack() as stack:
        yield lambda setup: stack.enter_context(Fleet(network, tmp_path, setup))


@pytest.fixture
def recovered(request: pytest.FixtureRequest) -> Recovery:
    """Notes for the table how many seconds it took from a fault until all was whole again."""
    return TABLE.recovery_of(request.node.nodeid)
