"""Claims about peers that abuse HTTP/2: what they cost is bounded, and nobody else notices."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from pool_service.rpc.server import MAX_CALLS, MAX_CONNECTIONS, MAX_STREAMS
from pool_service_client import PoolClient
from tests.http2 import abuses
from tests.http2.abuses import ABUSES, Abuse
from tools.demo.service import RunningService

MB = 1_000_000
LONGEST_CALL_S = 30.0
"""Deadline of an ordinary call; on a loaded machine, with thousands of calls before it."""

PAUSE_S = 0.02
GIVEN_BACK_S = 60.0
"""Limit for the service to notice that it has memory to spare."""


def resident(service: RunningService) -> int:
    return psutil.Process(service.process.pid).memory_info().rss


class OrdinaryCaller(threading.Thread):
    """Calls again and again; `failure` is what went wrong, `peak` what the service took at most."""

    def __init__(self, service: RunningService) -> None:
        super().__init__(daemon=True)
        self._service = service
        self._over = threading.Event()
        self.calls = 0
        self.peak = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            with PoolClient.connect(self._service.address) as pool:
                while not self._over.wait(PAUSE_S):
                    pool.ensure("warm", timeout=LONGEST_CALL_S)
                    assert [server.model for server in pool.list(timeout=LONGEST_CALL_S)]
                    self.calls += 1
                    self.peak = max(self.peak, resident(self._service))
        except Exception as error:  # noqa: BLE001  # the test tells of it
            self.failure = error

    def end(self) -> None:
        """Wait for one more call that was begun after this, and end."""
        enough = self.calls + 2
        while self.calls < enough and self.is_alive():
            time.sleep(PAUSE_S)
        self._over.set()
        self.join()


@contextmanager
def ordinary_caller(service: RunningService) -> Iterator[OrdinaryCaller]:
    with PoolClient.connect(service.address) as pool:
        pool.ensure("warm", timeout=LONGEST_CALL_S)
    caller = OrdinaryCaller(service)
    caller.start()
    yield caller
    caller.end()
    if caller.failure is not None:
        raise caller.failure


@pytest.mark.parametrize("abuse", ABUSES, ids=lambda abuse: abuse.__name__)
def test_abuse_of_http2_costs_bounded_memory_and_others_are_served(
    service: RunningService, abuse: Abuse
) -> None:
    with ExitStack() as stack:
        with ordinary_caller(service) as caller:
            before = resident(service)
            abuse(service.address, stack)
        growth = max(caller.peak, resident(service)) - before
        assert growth < ABUSES[abuse] * MB
    assert service.process.poll() is None


def test_what_a_flood_of_resets_took_is_given_back(service: RunningService) -> None:
    with ExitStack() as stack, ordinary_caller(service):
        before = resident(service)
        abuses.rapid_reset_on_many_connections(service.address, stack)
    until = time.monotonic() + GIVEN_BACK_S
    while resident(service) - before > 80 * MB:
        assert time.monotonic() < until, "the service keeps what it has taken"
        time.sleep(1)


def test_an_honest_herd_is_within_the_limits() -> None:
    assert 1_000 < MAX_STREAMS < MAX_CALLS
    assert MAX_CONNECTIONS >= 1_000
