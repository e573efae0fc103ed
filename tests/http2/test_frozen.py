"""Claims about callers whose process stands still: the kernel goes on answering for them."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pool_service.rpc.server import PING_INTERVAL_MS, PING_TIMEOUT_MS
from pool_service_client import PoolClient
from tools.demo.service import RunningService

BOUND_S = (PING_INTERVAL_MS + PING_TIMEOUT_MS) / 1000
LOADED_S = 15.0
"""What a busy machine may add to it."""

HOLD = """
import sys
from pool_service_client import PoolClient
with PoolClient.connect(sys.argv[1]) as pool, pool.hold("held", holder="frozen") as hold:
    hold.ready(30)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.long
def test_the_hold_of_a_frozen_program_ends_within_the_bound(service: RunningService) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, service.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        with PoolClient.connect(service.address) as pool:
            assert [server.holds for server in pool.list()] == [1]
            os.kill(holder.pid, signal.SIGSTOP)
            frozen = time.monotonic()
            while [server.holds for server in pool.list()] != [0]:
                assert time.monotonic() - frozen < BOUND_S + LOADED_S
                time.sleep(0.1)
    finally:
        os.kill(holder.pid, signal.SIGCONT)
        holder.kill()
        holder.communicate()
    while "holder=frozen" not in service.log.read_text():
        time.sleep(0.1)
