"""Merging: one answer from those of several members. Pure functions of messages."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from pool_service.rpc.pages import fitting
from pool_service.v1 import pool_service_pb2 as pb

_SUMS = (
    "servers",
    "queued",
    "starting",
    "ready",
    "stopping",
    "failed",
    "waiting_calls",
    "backing_off",
    "memory_reserved_bytes",
    "memory_total_bytes",
    "memory_available_bytes",
    "standbys",
)
_STATES = (
    pb.SERVER_STATE_READY,
    pb.SERVER_STATE_STARTING,
    pb.SERVER_STATE_QUEUED,
    pb.SERVER_STATE_BACKING_OFF,
    pb.SERVER_STATE_STOPPING,
    pb.SERVER_STATE_FAILED,
    pb.SERVER_STATE_UNSPECIFIED,
)
"""The states of a model, that which counts most first."""


def totals(of_members: Iterable[pb.PoolTotals]) -> pb.PoolTotals:
    """Return the totals of all members together; a limit that one does not have, none has."""
    told = list(of_members)
    merged = pb.PoolTotals()
    for name in _SUMS:
        setattr(merged, name, sum(getattr(one, name) for one in told))
    if told and all(one.HasField("memory_budget_bytes") for one in told):
        merged.memory_budget_bytes = sum(one.memory_budget_bytes for one in told)
    merged.memory_pressured = any(one.memory_pressured for one in told)
    return merged


def servers(pages: Sequence[pb.ListResponse], size: int) -> tuple[list[pb.Server], bool]:
    """Return the first servers of members' pages, and whether others follow.

    They are in the order of a pool, by model and generation. Servers of several members that are
    equal in it are all on one page, which may have some more than `size` for that.
    """
    among = sorted((server for page in pages for server in page.servers), key=_place)
    # As of models: a page is also full by its bytes, so that it can have fewer than others.
    ends = [_place(page.servers[-1]) for page in pages if page.next_page_token and page.servers]
    known = [one for one in among if not ends or _place(one) <= min(ends)]
    end = sum(1 for _ in fitting(islice(known, size)))
    while 0 < end < len(known) and _place(known[end]) == _place(known[end - 1]):
        end += 1
    return known[:end], len(among) > end or any(page.next_page_token for page in pages)


def models(pages: Sequence[pb.ListModelsResponse], size: int) -> tuple[list[pb.Model], bool]:
    """Return the first models of members' pages, each once, and whether others follow."""
    by_name: dict[str, list[pb.Model]] = {}
    for page in pages:
        for one in page.models:
            by_name.setdefault(one.model, []).append(one)
    # Beyond the end of a page that another follows, that member may have what it has not told yet.
    ends = [page.models[-1].model for page in pages if page.next_page_token and page.models]
    known = [name for name in sorted(by_name) if not ends or name <= min(ends)]
    shown = list(fitting(_model(by_name[name]) for name in islice(known, size)))
    return shown, len(by_name) > len(shown) or bool(ends)


def _model(of_members: Sequence[pb.Model]) -> pb.Model:
    """Return what all members together say of one model; where they differ the first counts."""
    merged = pb.Model()
    merged.CopyFrom(next((one for one in of_members if one.listed), of_members[0]))
    merged.ClearField("aliases")
    merged.aliases.extend(sorted({alias for one in of_members for alias in one.aliases}))
    known = [one.on_disk for one in of_members if one.HasField("on_disk")]
    merged.ClearField("on_disk")
    if known:
        merged.on_disk = any(known)
    merged.disk_bytes = max(one.disk_bytes for one in of_members)
    merged.expected_bytes = max(one.expected_bytes for one in of_members)
    merged.pinned = any(one.pinned for one in of_members)
    merged.listed = any(one.listed for one in of_members)
    merged.state = min((one.state for one in of_members), key=_STATES.index)
    if any(not one.problem for one in of_members):
        # One member that can start it is enough.
        merged.problem = ""
    return merged


def pinned(answers: Mapping[str, pb.PinResponse]) -> pb.PinResponse:
    """Return the answer of a Pin that several members have answered."""
    told = list(answers.values())
    return pb.PinResponse(
        pinned=any(one.pinned for one in told),
        changed=any(one.changed for one in told),
        configured=any(one.configured for one in told),
    )


def _place(server: pb.Server) -> tuple[str, int]:
    return server.model, server.generation
