"""Conversion of what members send to the values of the front.

The names of models are interned: many members say the same ones, each several times.
"""

from collections.abc import Iterable
from sys import intern

from google.protobuf.duration_pb2 import Duration

from pool_service.fleet.core.values import (
    CatalogueNames,
    Offer,
    Report,
    SeenServer,
    ServerState,
    Verdict,
)
from pool_service.v1 import pool_service_pb2 as pb

STATES = {
    pb.SERVER_STATE_QUEUED: ServerState.QUEUED,
    pb.SERVER_STATE_STARTING: ServerState.STARTING,
    pb.SERVER_STATE_READY: ServerState.READY,
    pb.SERVER_STATE_BACKING_OFF: ServerState.BACKING_OFF,
    pb.SERVER_STATE_STOPPING: ServerState.STOPPING,
    pb.SERVER_STATE_FAILED: ServerState.FAILED,
}

VERDICTS = {
    pb.OFFER_VERDICT_WARM: Verdict.WARM,
    pb.OFFER_VERDICT_FITS: Verdict.FITS,
    pb.OFFER_VERDICT_EVICTS: Verdict.EVICTS,
    pb.OFFER_VERDICT_WAITS: Verdict.WAITS,
    pb.OFFER_VERDICT_NEVER: Verdict.NEVER,
}


def seen(host: str, server: pb.Server, revision: int) -> SeenServer:
    """Return a server of a member. A state that is not known here is none that serves.

    server: is used up: its names are taken out of it, as there are thousands of servers.
    """
    model, runtime_model = intern(server.model), intern(server.runtime_model)
    server.ClearField("model")
    server.ClearField("runtime_model")
    return SeenServer(
        host,
        model,
        server.generation,
        STATES.get(server.state, ServerState.FAILED),
        server.role == pb.SERVER_ROLE_CURRENT,
        server.expected_bytes,
        runtime_model,
        revision,
        server.SerializeToString(),
    )


def as_sent(server: SeenServer) -> pb.Server:
    """Return the message of a server, as its member has sent it."""
    assert isinstance(server.message, bytes)
    message = pb.Server.FromString(server.message)
    message.model, message.runtime_model = server.model, server.runtime_model
    return message


def offer(message: pb.OfferResponse) -> Offer:
    """Return a member's offer. A verdict that is not known here is a refusal."""
    return Offer(
        VERDICTS.get(message.verdict, Verdict.NEVER),
        message.model,
        message.on_disk if message.HasField("on_disk") else None,
        _seconds(message.usual_load) if message.HasField("usual_load") else None,
        message.needed_bytes,
        message.free_bytes if message.HasField("free_bytes") else None,
        message.evictable_bytes,
        message.reason,
        message.revision,
    )


def report(message: pb.BeatResponse) -> Report:
    """Return what a member says of itself."""
    return Report(
        message.reachable,
        message.epoch,
        message.front,
        _seconds(message.front_heard) if message.HasField("front_heard") else None,
        _seconds(message.hold_grace),
        message.version,
        tuple(message.notices),
        message.totals if message.HasField("totals") else None,
    )


def names(models: Iterable[pb.Model]) -> CatalogueNames:
    """Return the names of a member's catalogue."""
    listed = list(models)
    return CatalogueNames(
        {alias: intern(one.model) for one in listed for alias in one.aliases},
        tuple(sorted({intern(one.model) for one in listed})),
    )


def _seconds(duration: Duration) -> float:
    return float(duration.seconds + duration.nanos / 1e9)
