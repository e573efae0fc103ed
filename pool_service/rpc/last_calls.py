"""The wait, before gRPC is stopped, for calls that have arrived and are not begun.

gRPC would end them as CANCELLED, without a message; begun ones are refused with a reason.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

ARRIVAL_S = 0.02
"""Seconds within which an arrived call is begun, unless the machine is busy."""

LULL_S = 0.05
"""Seconds without a refused call after which no more of them are expected."""

MAX_WAIT_S = 3.0
"""The longest wait in seconds: among very many clients one always retries. Enough to refuse a
thousand calls on a loaded machine, at two milliseconds each."""


class LastCalls:
    """Waits for the calls that have arrived at the server's addresses."""

    def __init__(self, refused_at: Callable[[], float]) -> None:
        """Create the wait.

        refused_at: returns the event loop's time of the last refused call; -inf: there was none.
        """
        self._refused_at = refused_at

    async def wait(self, addresses: Sequence[str], max_wait_s: float) -> None:
        """Wait until calls are no longer refused and the calls that came before are begun.

        Waits at most `max_wait_s`, and never longer than MAX_WAIT_S. addresses: the server's own,
        without TLS. A health check at each of them is queued behind the calls that have arrived, so
        that its answer proves that they have begun: on a busy machine gRPC's threads can be late,
        and a lull alone proves nothing.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + min(max_wait_s, MAX_WAIT_S)
        refused_at = None
        while loop.time() < end and self._refused_at() != refused_at:
            await self._wait_for_lull(end)
            refused_at = self._refused_at()
            await asyncio.gather(*(_pass(address, end - loop.time()) for address in addresses))

    async def _wait_for_lull(self, end: float) -> None:
        """Wait until no call has been refused for LULL_S, at most until `end`.

        A pause that ends late does not count: calls that arrived meanwhile have not begun either.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        pause = min(ARRIVAL_S, end - began)
        while loop.time() < end:
            wakes = loop.time() + pause
            await asyncio.sleep(pause)
            now, last = loop.time(), self._refused_at()
            is_lull = last < began or now >= last + LULL_S
            if is_lull and now < wakes + ARRIVAL_S:
                return
            pause = max(last + LULL_S - now, ARRIVAL_S)


async def _pass(address: str, timeout_s: float) -> None:
    """Call the server at one of its own addresses, and wait for the answer, whatever it is."""
    options = (("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1))
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            await stub.Check(health_pb2.HealthCheckRequest(), timeout=max(timeout_s, 0))
        except grpc.aio.AioRpcError:
            # As when all its connections are taken, or a socket was removed: then there is nothing
            # more to learn here.
            return
