"""Marks the tests of fleets, which need root on Linux, and makes their networks."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.hosts.namespaces import new_network
from tests.fleet.hosts.network import Network


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


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """A network without hosts."""
    with Network(tmp_path) as one:
        yield one
