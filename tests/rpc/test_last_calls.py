"""A claim about calls that have arrived, and are not begun, when gRPC is stopped."""

import asyncio

import grpc
import pytest

from pool_service.rpc import last_calls
from tests.http2.peer import Peer, ensure_frames
from tests.rpc.serving import serving

CALLS = 200
UNAVAILABLE = str(grpc.StatusCode.UNAVAILABLE.value[0])


async def test_arrived_calls_are_refused_with_a_reason_also_without_a_lull(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Give the calls no time to begin, as on a machine on which gRPC's threads are late."""
    monkeypatch.setattr(last_calls, "ARRIVAL_S", 0.0005)
    monkeypatch.setattr(last_calls, "LULL_S", 0.0)
    streams = range(1, 2 * CALLS, 2)
    async with serving() as service:
        await service.pool.shutdown()
        with Peer(service.address, deaf=True) as peer:
            peer.send(b"".join(ensure_frames(stream, "m") for stream in streams))
            stopping = asyncio.create_task(service.server.stop(60))
            statuses = await asyncio.to_thread(peer.statuses, streams)
        await stopping
    assert {code for code, _ in statuses.values()} == {UNAVAILABLE}
    assert all("the service is shutting down" in why for _, why in statuses.values())
