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


def describe(into: Picture, model: str, **fields: Any) -> None:  # noqa: ANN401
    into.learn({model: described(model, **fields)}, anew=False)


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
