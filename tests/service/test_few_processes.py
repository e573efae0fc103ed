"""A service whose control group has no processes and threads left."""

import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pool_service_client import PoolClient, RetryPolicy, StartFailed
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import running

CALLERS = 20
PLACES = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))
"""Where a control group is made, of version 1 and of version 2."""

FEW = (
    FAKE_RUNTIME
    + f"""
[service]
max_starts = {CALLERS}
standby = 0
[memory]
budget = "none"
reserve = 0
"""
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that bounds the number of processes; tests without the right are skipped."""
    for place in PLACES:
        group = place / f"pool-service-test-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / "pids.max").exists() and os.access(group / "cgroup.procs", os.W_OK):
            yield group
            group.rmdir()
            return
        group.rmdir()
    pytest.skip("no control group can be made here")


def test_starts_beyond_the_limit_are_reported_as_the_machines_shortage(
    group: Path, tmp_path: Path
) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(FEW)
    enter = ("/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    limit = group / "pids.max"
    with (
        running(tmp_path / "state", arguments=["--config", str(config)], wrapper=enter) as service,
        PoolClient.connect(service.address, retry=RetryPolicy(attempts=1)) as pool,
    ):
        pool.ensure("first")
        limit.write_text(str(int((group / "pids.current").read_text()) + 3))
        with ThreadPoolExecutor(CALLERS) as callers:
            asked = [callers.submit(pool.ensure, f"m{n}") for n in range(CALLERS)]
            failures = [failure for one in asked if (failure := one.exception()) is not None]
        assert failures
        for failure in failures:
            assert isinstance(failure, StartFailed), failure
            assert "pids.max" in str(failure)
        limit.write_text("max")
        with PoolClient.connect(service.address) as patient:
            # The first too: it may have been one that got no thread.
            for model in ("first", *(f"m{number}" for number in range(CALLERS))):
                patient.ensure(model)
        assert "internal error" not in service.log.read_text()
        listed = {server.pid for server in pool.list()}
        assert _servers_of(group) == listed


def _servers_of(group: Path) -> set[int]:
    pids = map(int, (group / "cgroup.procs").read_text().split())
    return {pid for pid in pids if b"fake_server" in Path(f"/proc/{pid}/cmdline").read_bytes()}
