"""A service to which a control group is delegated gives each server one of its own."""

import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.control_groups import Delegated, delegated, mount
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import RunningService, running

MOUNT = mount()

pytestmark = pytest.mark.skipif(MOUNT is None, reason="needs root, and control groups of version 2")


@pytest.fixture
def group() -> Iterator[Delegated]:
    assert MOUNT is not None
    with delegated(MOUNT) as one:
        yield one


def group_of(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line for line in lines if line.startswith("0::")).removeprefix("0::")


def test_each_server_has_a_group_and_the_next_service_knows_it(
    group: Delegated, tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(FAKE_RUNTIME)

    def service() -> AbstractContextManager[RunningService]:
        return running(
            tmp_path / "state", arguments=["--config", str(config)], wrapper=group.wrapper
        )

    with service() as first:
        with PoolClient.connect(first.address) as pool:
            one, other = pool.ensure("one").server, pool.ensure("other").server
        groups = {group_of(server.pid) for server in (one, other)}
        assert len(groups) == 2
        assert all(name.startswith(f"/{group.path.name}/servers-") for name in groups)
        assert group_of(first.process.pid) == f"/{group.path.name}/service"
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        with service() as second, PoolClient.connect(second.address) as pool:
            assert pool.ensure("one").server.pid == one.pid
            assert group_of(one.pid) in groups
            pool.evict("one")
            assert len(group.of_servers) == 1
    assert group.of_servers == []
