"""What only the page of a front asks: the use of all servers, the hosts, and changes of state."""

import asyncio
import json
from collections.abc import Mapping
from typing import cast

import grpc

from pool_service.access.principal import Principal
from pool_service.core.errors import Recovering
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.values import Presence, SeenServer, ServerState
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.members.messages import as_sent
from pool_service.fleet.ports import MemberLost
from pool_service.fleet.rpc import merging
from pool_service.fleet.rpc.asking_all import LOOK_TIMEOUT_S
from pool_service.fleet.rpc.forwarding import Forwarding
from pool_service.ports import Clock
from pool_service.rpc.json_calls import json_of
from pool_service.v1 import pool_service_pb2 as pb

PAGE_SIZE = 1000

SERVERS_PER_TURN = 50
"""Servers that are written between two turns of the event loop, in half a millisecond."""

Place = tuple[str, str, int]
"""A server: its host, its model and its generation."""

Order = Mapping[Place, tuple[int, bool]]
"""The place of servers among those of their host that go next, and whether each was busy."""

_TELLING = frozenset({ServerState.STOPPING, ServerState.BACKING_OFF, ServerState.FAILED})
"""States that a server has for a reason; the message of any other need not be read."""


class FleetUsage:
    """Tells the use of all servers of a fleet. A look: nothing is used, started or changed."""

    def __init__(self, fleet: Fleet[GrpcLink], forwarding: Forwarding, clock: Clock) -> None:
        self._fleet = fleet
        self._forwarding = forwarding
        self._clock = clock

    async def as_json(self, principal: Principal) -> str:
        """Return the use of each server, the totals, the hosts and the notices as a JSON object.

        It is as that of one pool (`pool_service.page.usage`), and has the hosts besides: each one's
        state, and its totals as of its last beat. Of the calls that wait there are only the totals.
        """
        revision, members = self._revision(), self._fleet.members
        call = self._forwarding.call_of(principal)
        links = self._fleet.present if revision else []
        listed = await asyncio.gather(*(_listed(link, call) for link in links))
        told = dict(zip((link.host for link in links), listed, strict=True))
        order = await self._order(links, call)
        texts = []
        servers = [server for one in listed if not isinstance(one, str) for server in one]
        for number, server in enumerate(servers, 1):
            texts.append(json.dumps(_use(server, order)))
            if number % SERVERS_PER_TURN == 0:
                await asyncio.sleep(0)
        totals = merging.totals(_totals_of(one) for one in members if _is_seen(one))
        notices = self._fleet.notices()
        notices += [f"{host}: {why}" for host, why in told.items() if isinstance(why, str)]
        notices += [
            f"{one.host}: {notice}"
            for one in members
            if one.report is not None and _is_seen(one)
            for notice in one.report.notices
        ]
        return (
            f'{{"revision": "{revision}", "now": {self._clock.wall(self._clock.now())}, '
            f'"servers": [{", ".join(texts)}], "totals": {json_of(totals)}, '
            f'"memory_current": {json.dumps(totals.memory_available_bytes > 0)}, '
            f'"hosts": [{", ".join(map(_host, members))}], "notices": {json.dumps(notices)}}}'
        )

    def _revision(self) -> str:
        """Return the revision of the last change; empty until each member has told its servers."""
        try:
            return str(self._fleet.history.revision)
        except Recovering:
            return ""

    async def _order(self, links: list[GrpcLink], call: bytes) -> Order:
        """Return which servers go next on each host, as far as that is known."""
        chosen = {one.host: _some_model(one) for one in self._fleet.members}
        asked = [(link, model) for link in links if (model := chosen.get(link.host))]
        orders = await asyncio.gather(*(_order_of(link, model, call) for link, model in asked))
        return {place: known for order in orders for place, known in order.items()}


async def _listed(link: GrpcLink, call: bytes) -> list[pb.Server] | str:
    """Return all servers of a member, or why they are not known."""
    servers, token = list[pb.Server](), ""
    try:
        while True:
            asked = pb.ListRequest(page_size=PAGE_SIZE, page_token=token)
            page: pb.ListResponse = await link.unary("List", asked, call, LOOK_TIMEOUT_S)
            servers += page.servers
            token = page.next_page_token
            if not token:
                return servers
    except MemberLost:
        return "memory and use are not up to date: it is lost."
    except grpc.aio.AioRpcError as error:
        return f"memory and use are not up to date: {error.details() or error.code().name}."


async def _order_of(link: GrpcLink, model: str, call: bytes) -> Order:
    """Return which servers of a member go next, which the description of any model tells."""
    try:
        answer: pb.DescribeResponse = await link.unary(
            "Describe", pb.DescribeRequest(model=model), call, LOOK_TIMEOUT_S
        )
    except (MemberLost, grpc.aio.AioRpcError):
        return {}
    return {
        (link.host, one.model, one.generation): (place, one.busy)
        for place, one in enumerate(answer.next_to_go, 1)
    }


def _some_model(member: Member) -> str:
    """Return a model of a member that it can describe; empty if it has no server."""
    return next((one.model for one in member.servers.values() if one.is_current), "")


def _use(server: pb.Server, order: Order) -> dict[str, object]:
    place, is_busy = order.get((server.host, server.model, server.generation), (0, False))
    return {
        "model": server.model,
        "generation": str(server.generation),
        "host": server.host,
        "role": pb.ServerRole.Name(server.role),
        "state": pb.ServerState.Name(server.state),
        "pinned": server.pinned,
        "expected_bytes": server.expected_bytes,
        "footprint_bytes": server.footprint_bytes,
        "peak_bytes": server.peak_bytes,
        "holds": server.holds,
        "last_use_time": server.last_use_time.ToNanoseconds() / 1e9,
        "expire_time": server.expire_time.ToNanoseconds() / 1e9
        if server.HasField("expire_time")
        else None,
        "waiting_calls": 0,
        "place": place,
        "busy": is_busy,
    }


def _host(member: Member) -> str:
    """Return a member as JSON. why: it is not seen, or nothing is started there; or empty."""
    unreachable = "" if member.is_reachable else "no other host reaches its servers"
    known = {
        "host": member.host,
        "state": member.presence.name.lower(),
        "why": unreachable if _is_seen(member) else member.why,
        "version": member.report.version if member.report is not None else "",
    }
    totals = json_of(_totals_of(member)) if _is_seen(member) else "null"
    return f'{json.dumps(known)[:-1]}, "totals": {totals}}}'


def _is_seen(member: Member) -> bool:
    return member.presence is Presence.PRESENT


def _totals_of(member: Member) -> pb.PoolTotals:
    told = member.report.totals if member.report is not None else None
    return cast("pb.PoolTotals", told) if told is not None else pb.PoolTotals()


def change_json(server: SeenServer, state: ServerState | None, at: float, why: str = "") -> str:
    """Return a change of a server's state as the page reads it.

    state: None: it is gone. at: the Unix time in seconds. why: besides what the server tells.
    """
    known = {
        "model": server.model,
        "generation": server.generation,
        "host": server.host,
        "state": f"SERVER_STATE_{state.name}" if state is not None else "",
        "at": at,
        "why": why,
        "cause": "",
        "preemptor": "",
    }
    if state is None or state in _TELLING:
        known |= _reasons(server, state, why)
    return json.dumps(known)


def _reasons(server: SeenServer, state: ServerState | None, why: str) -> dict[str, str]:
    message = as_sent(server)
    ended = message.last_exit if message.last_exit.generation == message.generation else pb.Exit()
    known = pb.ExitCause.Name(ended.cause).removeprefix("EXIT_CAUSE_")
    cause = "" if known == "UNSPECIFIED" else known
    if state is ServerState.STOPPING:
        # Only how its process has ended is told in the end.
        cause = cause or "STOPPED"
    return {"why": why or message.detail or ended.message, "cause": cause}
