"""When a service's standby has nothing left to do ahead, as seen from outside."""

import time

import psutil

from demo.service import RunningService
from pool_service.adapters.waiting import CHILD
from pool_service_client import PoolClient

INTERVAL = 0.1
LOOKS = 5
"""In a row, asleep and without having computed anything: it waits."""

TIMEOUT = 120.0


def await_standby(service: RunningService, pool: PoolClient) -> int:
    """Return the pid of a standby that waits for its arguments. Raises TimeoutError."""
    deadline = time.monotonic() + TIMEOUT
    quiet: dict[tuple[int, float], int] = {}
    while time.monotonic() < deadline:
        servers = {server.pid for server in pool.list()}
        looks = [
            (process.pid, process.cpu_times().user)
            for process in psutil.Process(service.process.pid).children()
            if process.pid not in servers and _waits(process)
        ]
        quiet = {look: quiet.get(look, 0) + 1 for look in looks}
        for (pid, _), count in quiet.items():
            if count >= LOOKS:
                return pid
        time.sleep(INTERVAL)
    raise TimeoutError(f"there is no standby after {TIMEOUT:g} s: see {service.log}")


def _waits(process: psutil.Process) -> bool:
    return str(CHILD) in process.cmdline() and process.status() == psutil.STATUS_SLEEPING
