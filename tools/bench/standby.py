"""When a service's standby has nothing left to do ahead."""

import time

import psutil

from pool_service.adapters.standby.process import CHILD
from pool_service_client import PoolClient
from tools.demo.service import RunningService

INTERVAL = 0.05
TIMEOUT = 120.0


def await_standby(service: RunningService, pool: PoolClient, count: int = 1) -> int:
    """Return the pid of a standby, when so many wait for their arguments. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT
    while next(pool.pages()).totals.standbys < count:
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"there are no {count} standbys after {TIMEOUT:g} s: see {service.log}"
            )
        time.sleep(INTERVAL)
    servers = {server.pid for server in pool.list()}
    children = psutil.Process(service.process.pid).children()
    return next(one.pid for one in children if one.pid not in servers and _is_standby(one))


def _is_standby(process: psutil.Process) -> bool:
    return str(CHILD) in process.cmdline()
