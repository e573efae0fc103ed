"""Forwarding: sends the calls of a model to the member that has it, or gets it."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc

from pool_service.access.principal import Principal
from pool_service.fleet.core.placing import MOVING_REASONS
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.members.metadata import fleet_call
from pool_service.fleet.ports import MemberLost
from pool_service.fleet.rpc.errors import is_of_connection, reason_of
from pool_service.fleet.rpc.journey import STALE, Journey, Stage
from pool_service.fleet.rpc.leader import Leader
from pool_service.v1 import pool_service_pb2 as pb

AT_ONCE, SEATED, BY_LEADER, REFUSED, LEFT = "at_once", "seated", "by_leader", "refused", "left"
"""Outcomes of an Ensure: answered from a READY server, at the host that was found for it, or by the
leader; refused; or left by its caller."""

END_HOLD_TIMEOUT_S = 5.0
"""The time for a member to end a hold; one that does not answer ends it after its grace."""

LET_END_S = 1.0
"""How long an eviction waits for holds that are just being ended."""

MOST_LEFT_BEHIND = 10_000
"""The most holds of one host that are remembered until the host is seen again: as many as a member
keeps without their fronts."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of one call.

    timeout: the seconds for which it still waits; None: for ever. waiting: counts the call among
    those that wait until a server is READY, which a block of it does.
    """

    principal: Principal
    timeout: float | None
    waiting: AbstractContextManager[None] = field(default_factory=nullcontext)


class Forwarding:
    """Sends calls to members on behalf of their callers."""

    def __init__(
        self,
        fleet: Fleet[GrpcLink],
        front: str,
        leader: Leader,
        ensured: Callable[[str], None] | None = None,
    ) -> None:
        """front: the name of the front's process. ensured: receives the outcome of each Ensure."""
        self._fleet = fleet
        self._front = front
        self._leader = leader
        self._ensured = ensured
        self._calls: dict[str, tuple[Principal, int, bytes]] = {}
        self._ending = set[asyncio.Task[None]]()
        self._left_behind: dict[str, deque[str]] = {}
        """The holds that went on elsewhere, by the hosts that they have left."""
        fleet.on_seen = self._end_left_behind
        self.is_ending = False
        """Whether the front ends. Holds then go on at the members, for the next front."""

    def call_of(self, principal: Principal, epoch: int | None = None) -> bytes:
        """Return the FleetCall of a call that places nothing: the same for all of a caller.

        epoch: None: of the present leader.
        """
        epoch = self._fleet.followed_epoch if epoch is None else epoch
        known, known_epoch, call = self._calls.get(principal.name, (None, 0, b""))
        if known is not principal or known_epoch != epoch:
            call = fleet_call(self._front, epoch, principal)
            self._calls[principal.name] = principal, epoch, call
        return call

    async def ensure(self, request: pb.EnsureRequest, caller: Caller) -> pb.EnsureResponse:
        """Return a READY server of a model, on whichever host."""
        if self._ensured is None:
            answer, _ = await self._ensure(request, caller)
            return answer
        outcome = REFUSED
        try:
            answer, outcome = await self._ensure(request, caller)
        except asyncio.CancelledError:
            outcome = LEFT
            raise
        finally:
            self._ensured(outcome)
        return answer

    async def _ensure(
        self, request: pb.EnsureRequest, caller: Caller
    ) -> tuple[pb.EnsureResponse, str]:
        """Return the answer to an Ensure, and its outcome."""
        answer: pb.EnsureResponse | None = await self._ensure_at_once(request, caller)
        if answer is not None:
            return answer, AT_ONCE
        with caller.waiting, self._journey(request) as journey:
            stage = await journey.begin()
            while True:
                call = self._call_at(stage, caller.principal)
                try:
                    answer = await stage.route.unary("Ensure", request, call, caller.timeout)
                except (MemberLost, grpc.aio.AioRpcError) as error:
                    stage = await journey.after(error)
                else:
                    return answer, BY_LEADER if stage.seat is None else SEATED

    async def _ensure_at_once(
        self, request: pb.EnsureRequest, caller: Caller
    ) -> pb.EnsureResponse | None:
        """Return the READY server of a model; None if it has none, or just no more."""
        seat = self._fleet.at_once(request.model)
        link = self._fleet.link(seat.host) if seat is not None else None
        if seat is None or link is None:
            return None
        call = self.call_of(caller.principal, seat.epoch)
        try:
            answer: pb.EnsureResponse = await link.unary("Ensure", request, call, caller.timeout)
        except MemberLost:
            return None
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            if is_of_connection(error, reason) or reason in (*MOVING_REASONS, STALE):
                return None
            raise
        return answer

    async def hold(
        self, request: pb.HoldRequest, caller: Caller, of_front: str
    ) -> AsyncGenerator[pb.HoldResponse]:
        """Yield the states of a model that is held, on whichever host it is at the time.

        of_front: the name of the hold if another front asks for it, which ends it by its name; if
        that front is lost, the hold goes on at the member. Empty: the caller is no front.
        """
        name, host = of_front or secrets.token_hex(8), ""
        with self._journey(request) as journey:
            stage = await journey.begin()
            while True:
                call = self._call_at(stage, caller.principal, hold=name)
                answers = stage.route.stream("Hold", request, call, caller.timeout)
                try:
                    async for answer in answers:
                        host = answer.server.host
                        yield answer
                except (MemberLost, grpc.aio.AioRpcError) as error:
                    host = stage.seat.host if stage.seat is not None else host
                    stage, goes_on = await self._move_hold(journey, host, name, error)
                    name = name if goes_on or of_front else secrets.token_hex(8)
                except (asyncio.CancelledError, GeneratorExit):
                    link = None if of_front else self._holding(stage, host)
                    self._end_hold(link, name, answers)
                    raise
                else:
                    return

    async def _move_hold(
        self, journey: Journey, host: str, name: str, error: MemberLost | grpc.aio.AioRpcError
    ) -> tuple[Stage, bool]:
        """Return where a hold goes on whose call has failed, and whether it may be there already.

        Then it keeps its name, as a hold of another front always does, which ends it by its name. A
        host that it leaves would keep it for its grace, and is told that it has ended.

        host: where it was, as far as is known.
        """
        goes_on = False
        # Otherwise the host itself has ended the hold.
        is_away = isinstance(error, MemberLost) or is_of_connection(error, reason_of(error))
        try:
            after = await journey.after(error)
            # The leader knows where it is.
            goes_on = after.seat is None or after.seat.host == host
        finally:
            if host and is_away and not goes_on and not self.is_ending:
                self._leave_behind(host, name)
        if after.seat is not None:
            self._come_back(after.seat.host, name)
        return after, goes_on

    def _leave_behind(self, host: str, name: str) -> None:
        """End a hold at a host, or do so once the host is seen again."""
        self._left_behind.setdefault(host, deque(maxlen=MOST_LEFT_BEHIND)).append(name)
        present = {link.host for link in self._fleet.present}
        if host in present:
            self._end_left_behind(host)
        for gone in [one for one in self._left_behind if self._fleet.link(one) is None]:
            del self._left_behind[gone]

    def _come_back(self, host: str, name: str) -> None:
        """Let a hold that has left a host, and is to go on there, not be ended there."""
        with suppress(KeyError, ValueError):
            self._left_behind[host].remove(name)

    def _end_left_behind(self, host: str) -> None:
        """End all holds at a host that went on elsewhere."""
        link = self._fleet.link(host)
        if link is None or host not in self._left_behind:
            return

        async def end() -> None:
            call = fleet_call(self._front, self._fleet.followed_epoch)
            with suppress(MemberLost, grpc.aio.AioRpcError):
                # One by one, as those that are still to be ended may come back meanwhile.
                while names := self._left_behind.get(host):
                    request = pb.EndHoldRequest(hold=names.popleft())
                    await link.unary("EndHold", request, call, END_HOLD_TIMEOUT_S)
                self._left_behind.pop(host, None)

        self._in_background(end())

    def _holding(self, stage: Stage, host: str) -> GrpcLink | None:
        """Return the link to the member of a hold. host: as the last answer has it.

        None: the leader has it, and has not said where, or it is no member any more.
        """
        return self._fleet.link(stage.seat.host if stage.seat is not None else host)

    def _end_hold(
        self, link: GrpcLink | None, name: str, answers: AsyncGenerator[pb.HoldResponse]
    ) -> None:
        """End a hold whose caller has left; until then its stream stays open.

        link: to the member that has the hold; None: only the stream is ended.
        """

        async def end() -> None:
            async with aclosing(answers):
                if link is None or self.is_ending:
                    return
                request = pb.EndHoldRequest(hold=name)
                call = fleet_call(self._front, self._fleet.followed_epoch)
                with suppress(MemberLost, grpc.aio.AioRpcError):
                    await link.unary("EndHold", request, call, END_HOLD_TIMEOUT_S)

        self._in_background(end())

    async def let_holds_end(self) -> None:
        """Wait until the holds have ended at their members whose callers have left, or 1 s.

        What a caller then asks for, such as an eviction, finds them ended, as at one pool.
        """
        if self._ending:
            await asyncio.wait(self._ending, timeout=LET_END_S)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    @contextmanager
    def _journey(self, request: pb.EnsureRequest | pb.HoldRequest) -> Iterator[Journey]:
        download = request.download if request.HasField("download") else None
        with self._fleet.asking(request.model, request.runtime_model, download=download) as asking:
            yield Journey(self._fleet, asking, self._leader)

    def _call_at(self, stage: Stage, principal: Principal, *, hold: str = "") -> bytes:
        """Return the FleetCall of a call that may start a server."""
        seat = stage.seat
        if seat is None:
            return fleet_call(self._front, 0, principal, hold=hold)
        return fleet_call(
            self._front,
            seat.epoch,
            principal,
            least_generation=seat.least_generation,
            hold=hold,
        )
