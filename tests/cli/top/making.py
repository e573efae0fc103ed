"""Pictures of pools as the service would tell them, without one."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from pool_service.cli.top.canvas import Canvas
from pool_service.cli.top.controls import Controls
from pool_service.cli.top.frame import frame
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.text_views import LogText
from pool_service_client import (
    Description,
    Event,
    Server,
    ServerChanged,
    ServerRemoved,
    Synced,
    convert,
)
from pool_service_client.convert_description import description
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import ready

NOW = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
GB = 1_000_000_000

HELD = "mlx-community/Llama-3.2-3B-Instruct-4bit"
LOADS = "mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit"


def at(seconds: float) -> Timestamp:
    """So many seconds from NOW; before it if negative."""
    stamp = Timestamp()
    stamp.FromNanoseconds(round((NOW.timestamp() + seconds) * 1e9))
    return stamp


def server(model: str = "m", **fields: Any) -> Server:  # noqa: ANN401
    return convert.server(ready(model, **fields))


def changed(one: Server, revision: int = 1) -> Event:
    return ServerChanged(revision, one)


def removed(one: Server, revision: int = 1) -> Event:
    return ServerRemoved(revision, one)


def picture(*servers: Server) -> Picture:
    """One in which Watch has told these servers."""
    made = Picture()
    receive(made, *map(changed, servers), Synced(1))
    return made


def receive(into: Picture, *events: Event) -> None:
    for event in events:
        into.receive(event)


def look(into: Picture, *servers: pb.Server, revision: int = 1, **totals: Any) -> None:  # noqa: ANN401
    """What List tells."""
    page = pb.ListResponse(servers=servers, revision=revision, totals=pb.PoolTotals(**totals))
    into.refresh([convert.page(page)])


def describe(into: Picture, model: str, at_s: float = 0.0, **fields: Any) -> None:  # noqa: ANN401
    into.learn({model: described(model, **fields)}, at_s, at_s, anew=False)


def described(model: str, **fields: Any) -> Description:  # noqa: ANN401
    return description(pb.DescribeResponse(model=model, **fields))


def know(into: Picture, models: Iterable[pb.Model]) -> None:
    into.models = convert.models(pb.ListModelsResponse(models=models))


def screen(
    shown: Picture, controls: Controls | None = None, width: int = 120, height: int = 30
) -> list[str]:
    """The lines of a frame as text, without spaces at their ends."""
    canvas = Canvas(width, height, NOW)
    lines = frame(shown, controls or Controls(), LogText(), "host:1", canvas)
    return [line.plain.rstrip() for line in lines]


def full() -> Picture:
    """A pool with something in each state."""
    held: dict[str, Any] = {
        "holds": 2,
        "footprint_bytes": 2 * GB,
        "expected_bytes": 3 * GB,
        "last_use_time": at(-12),
    }
    shown = picture(
        server(HELD, **held),
        server(
            LOADS,
            state=pb.SERVER_STATE_STARTING,
            progress=0.43,
            footprint_bytes=7 * GB,
            expected_bytes=17 * GB,
            detail="reads its weights",
        ),
        server("large", state=pb.SERVER_STATE_QUEUED, queue_position=1, detail="waits for m to go"),
        server("broken", state=pb.SERVER_STATE_FAILED, pid=0, detail="exited with code 3"),
        server("leaves", state=pb.SERVER_STATE_STOPPING, generation=4),
        server("m", expire_time=at(240), last_use_time=at(-70), generation=12),
    )
    know(shown, [pb.Model(model="unused", on_disk=True, expected_bytes=GB)])
    look(
        shown,
        servers=6,
        ready=2,
        starting=1,
        queued=1,
        stopping=1,
        failed=1,
        waiting_calls=3,
        standbys=1,
        memory_budget_bytes=40 * GB,
        memory_reserved_bytes=20 * GB,
        memory_available_bytes=30 * GB,
        memory_total_bytes=64 * GB,
    )
    order = [pb.EvictionCandidate(model="m", generation=12, freed_bytes=GB, busy=True)]
    describe(
        shown,
        HELD,
        holders=[pb.Holder(label="nightly", since=at(-180)), pb.Holder(since=at(-5))],
        holds=2,
        next_to_go=order,
        kept_because="it is held or pinned",
    )
    describe(shown, LOADS, waiting_calls=3, next_to_go=order)
    return shown


def on(model: str) -> Controls:
    return Controls(chosen=(model, 1, ""))
