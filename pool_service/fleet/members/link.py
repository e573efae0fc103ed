"""The link to one member: what it tells, its beats, and the way of calls to it."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NoReturn

import grpc
import structlog

from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Offer, SeenServer, Verdict
from pool_service.fleet.members import messages
from pool_service.fleet.members.beat_times import Places, next_beat
from pool_service.fleet.members.channel import Channel
from pool_service.fleet.members.metadata import fleet_call, metadata
from pool_service.fleet.members.security import Secure
from pool_service.fleet.ports import CallCounts, MemberLost
from pool_service.v1 import pool_service_pb2 as pb

MISSED_BEATS = 2
"""A member that has not answered for so many beats is suspected."""

OFFER_TIMEOUT_S = 0.5
"""The time for an answer to an offer: it takes milliseconds, and a member that is late is no good
host now."""

PAUSE_S = 0.2
"""The pause before a member is tried again that was not seen."""

CONNECT_TIMEOUT_S = 1.0
"""The time for the first answer of a member on a new connection."""

NAMED_WITHIN_S = 1.0
"""How long a new connection waits for the names of models, so that calls by an alias find them."""

NAMES_TIMEOUT_S = 30.0
"""The time for a page of a member's catalogue, of which slow files can be a part."""

PAGE_SIZE = 1000

WRONG_NAME = "Hostname Verification Check failed"
"""What gRPC says of a certificate that is of other names."""

log = structlog.get_logger("pool_service.fleet")

_OK, _CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name

LOST = "LOST"
"""The code of calls whose member was lost before it answered."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How all links of a front follow their members.

    front: the name of the front's process. epoch: returns the epoch with which it leads, else 0.
    beat_s: returns the seconds between two beats. secure: returns the security of a connection.
    counts: receives the calls of callers; None: nobody does. places: those of all its links.
    """

    front: str
    epoch: Callable[[], int]
    beat_s: Callable[[], float]
    secure: Secure
    counts: CallCounts | None = None
    places: Places = field(default_factory=Places)


class GrpcLink:
    """Implements the port `Link`, and makes calls of the API at its member."""

    def __init__(
        self, host: str, address: str, feed: Callable[[ev.Event], None], manner: Manner
    ) -> None:
        self.host = host
        self._address = address
        self._feed = feed
        self._manner = manner
        self._beat = asyncio.Event()
        self._place = manner.places.take()
        self._catalogue: str | None = None
        """The version of the catalogue whose names were told."""
        self._naming: asyncio.Task[None] | None = None
        self._why_no_names = ""
        self._failure = ""
        self._channel = self._connect()
        self._retired: list[Channel] = []
        """Channels before the present one, whose calls may still be answered."""
        self._following = asyncio.create_task(self._follow_for_ever())

    @property
    def is_closed(self) -> bool:
        """Whether the member is followed no longer, so that no call can be made there."""
        return self._channel.is_closed

    def close(self) -> None:
        self._following.cancel()
        self._manner.places.give_back(self._place)
        self._interrupt_calls()

    def beat_now(self) -> None:
        self._beat.set()

    def interrupt(self) -> None:
        self._interrupt_calls()
        self._channel = self._connect()

    def _interrupt_calls(self) -> None:
        for channel in (*self._retired, self._channel):
            channel.interrupt()
        self._retired = []

    async def offer(self, name: str, runtime_model: str, *, download: bool | None) -> Offer | None:
        request = pb.OfferRequest(model=name, runtime_model=runtime_model, download=download)
        channel = self._channel
        try:
            channel.check_open()
            answer = await channel.unary(channel.member.Offer(request, timeout=OFFER_TIMEOUT_S))
        except (grpc.aio.AioRpcError, MemberLost) as error:
            if (
                isinstance(error, grpc.aio.AioRpcError)
                and error.code() is grpc.StatusCode.INVALID_ARGUMENT
            ):
                # It refuses the call itself in the same way, and with all details.
                return Offer(Verdict.NEVER, name)
            log.info("a member made no offer", member=self.host, why=_why(error))
            return None
        return messages.offer(answer)

    async def evict_copy(self, model: str, epoch: int) -> None:
        with suppress(grpc.aio.AioRpcError, MemberLost):
            call = fleet_call(self._manner.front, epoch)
            await self.unary("Evict", pb.EvictRequest(model=model), call, None)

    # --- calls of the API -----------------------------------------------------------------

    async def unary(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> Any:  # noqa: ANN401 - of any method
        """Return the member's answer to a call of the API.

        method: of PoolService, or of FleetMemberService. call: the FleetCall that goes with it.
        timeout: in seconds; None: none. Raises MemberLost if the member is lost before it answers,
        and AioRpcError.
        """
        channel = self._channel
        channel.check_open()
        stub = getattr(channel.pool, method, None) or getattr(channel.member, method)
        counts = self._manner.counts
        if counts is None:
            return await channel.unary(stub(request, timeout=timeout, metadata=metadata(call)))
        began, code = perf_counter(), _OK
        try:
            return await channel.unary(stub(request, timeout=timeout, metadata=metadata(call)))
        except BaseException as error:
            code = _code_of(error)
            raise
        finally:
            counts.end(self.host, method, code, perf_counter() - began)

    async def stream(
        self,
        method: str,
        request: object,
        call: bytes,
        timeout: float | None,  # noqa: ASYNC109 - gRPC's own
    ) -> AsyncGenerator[Any]:
        """Yield the member's answers to a call of the API. The others are as of `unary`."""
        channel = self._channel
        channel.check_open()
        make = getattr(channel.pool, method)
        opened = make(request, timeout=timeout, metadata=metadata(call))
        with self._counted(method):
            async with aclosing(channel.stream(opened)) as answers:
                async for answer in answers:
                    yield answer

    @contextmanager
    def _counted(self, method: str) -> Iterator[None]:
        """Count a stream within a block."""
        counts = self._manner.counts
        if counts is None:
            yield
            return
        counts.open_stream(self.host, method)
        code = _OK
        try:
            yield
        except BaseException as error:
            code = _code_of(error)
            raise
        finally:
            counts.close_stream(method, code)

    # --- following ------------------------------------------------------------------------

    def _connect(self) -> Channel:
        return Channel(self._address, self._manner.secure(self.host, self._address))

    async def _follow_for_ever(self) -> None:
        while True:
            # Nothing may end this: nobody would see the member again.
            try:
                await self._follow_once()
            except Exception as error:  # noqa: BLE001 - of any kind
                self._log_failure(error)
                with suppress(Exception):
                    self._feed(ev.SightLost(self.host, str(error)))
            await asyncio.sleep(PAUSE_S)
            try:
                self._connect_anew()
            except Exception as error:  # noqa: BLE001 - of any kind
                self._log_failure(error)

    def _log_failure(self, error: Exception) -> None:
        """Log what should not happen, once of several times in a row."""
        failure, self._failure = self._failure, repr(error)
        if failure != self._failure:
            log.error("a member could not be followed", member=self.host, exc_info=error)

    async def _follow_once(self) -> None:
        try:
            await self._follow(self._channel)
        except (grpc.aio.AioRpcError, _Unfit) as error:
            self._feed(ev.SightLost(self.host, self._why_not_seen(error)))
        except MemberLost:
            log.debug("a lost member is looked for anew", member=self.host)

    def _connect_anew(self) -> None:
        """Connect again: the old connection can hang after a cut."""
        channel = self._connect()
        self._channel.retire()
        self._retired = [one for one in (*self._retired, self._channel) if not one.is_closed]
        self._channel = channel

    def _why_not_seen(self, error: Exception) -> str:
        """Return why the member is not seen; for a wrong certificate, which name it must have."""
        why = _why(error).rstrip(".")
        security = self._manner.secure(self.host, self._address)
        if WRONG_NAME in why and security is not None:
            return (
                f"its certificate is not of the name {security.name!r}, so that it is not called. "
                f"Give it one that is, or set members.{self.host}.san to a name that it has ({why})"
            )
        return why

    async def _follow(self, channel: Channel) -> NoReturn:
        """Feed what the member tells, until it is not seen any more. Raises AioRpcError, _Unfit."""
        try:
            await self._exchange_beat(channel, CONNECT_TIMEOUT_S)
            if self._naming is not None:
                await asyncio.wait((self._naming,), timeout=NAMED_WITHIN_S)
                channel.check_open()
            await self._follow_changes(channel, await self._tell_servers(channel))
        finally:
            naming, self._naming = self._naming, None
            if naming is not None:
                naming.cancel()
                await asyncio.gather(naming, return_exceptions=True)

    async def _follow_changes(self, channel: Channel, revision: int) -> NoReturn:
        """Feed what the member tells after a revision. Raises as `_follow`."""
        watching = asyncio.create_task(self._watch(channel, revision))
        beating = asyncio.create_task(self._keep_beating(channel))
        try:
            await asyncio.wait((watching, beating), return_when=asyncio.FIRST_COMPLETED)
            first = watching if watching.done() else beating
            raise first.exception() or _Unfit("it has ended its stream of changes")
        finally:
            watching.cancel()
            beating.cancel()
            await asyncio.gather(watching, beating, return_exceptions=True)

    async def _tell_servers(self, channel: Channel) -> int:
        """Feed all servers of the member; return the revision after which changes follow.

        By pages: one message for each of hundreds of servers would take ten times as long.
        """
        told = list[SeenServer]()
        token, revision = "", None
        while token or revision is None:
            request = pb.ListRequest(page_size=PAGE_SIZE, page_token=token)
            page = await channel.unary(channel.pool.List(request, timeout=CONNECT_TIMEOUT_S))
            token = page.next_page_token
            # The changes since the first page, so that none between two pages is missed.
            revision = int(page.revision) if revision is None else revision
            told += [messages.seen(self.host, server, revision) for server in page.servers]
        self._feed(ev.MemberTold(self.host, tuple(told), revision))
        self._failure = ""
        return revision

    async def _watch(self, channel: Channel, revision: int) -> None:
        opened = channel.pool.Watch(pb.WatchRequest(after_revision=revision))
        async with aclosing(channel.stream(opened)) as changes:
            async for change in changes:
                removed = change.WhichOneof("event") == "removed"
                server = change.removed if removed else change.server
                seen = messages.seen(self.host, server, change.revision)
                self._feed(ev.ServerChanged(seen, removed=removed))

    async def _keep_beating(self, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # Without a task of its own for the wait, as there are many members.
            due_at = next_beat(self._place, self._manner.beat_s(), loop.time())
            due = loop.call_at(due_at, self._beat.set)
            try:
                await self._beat.wait()
            finally:
                due.cancel()
            self._beat.clear()
            await self._exchange_beat(channel, MISSED_BEATS * self._manner.beat_s())

    async def _exchange_beat(self, channel: Channel, time_limit: float) -> None:
        """Send a beat and feed its answer; learn who leads if another front does."""
        request = pb.BeatRequest(front=self._manner.front, epoch=self._manner.epoch())
        try:
            answer = await channel.unary(channel.member.Beat(request, timeout=time_limit))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            request.epoch = 0
            answer = await channel.unary(channel.member.Beat(request, timeout=time_limit))
        if answer.host != self.host:
            raise _Unfit(
                f"the member at {self._address} calls itself {answer.host!r}; list it by that name"
                if answer.host
                else f"the service at {self._address} is no member; set fleet.name = "
                f'"{self.host}" there'
            )
        self._feed(ev.BeatAnswered(self.host, messages.report(answer)))
        is_naming = self._naming is not None and not self._naming.done()
        if answer.catalogue != self._catalogue and not is_naming:
            self._naming = asyncio.create_task(self._tell_names(channel, answer.catalogue))

    async def _tell_names(self, channel: Channel, catalogue: str) -> None:
        """Feed the names of a version of the catalogue; after a failure the next beat tries again.

        Beside the beats, as a member whose files are slow is seen nevertheless.
        """
        models, token = list[pb.Model](), ""
        try:
            while True:
                request = pb.ListModelsRequest(page_size=PAGE_SIZE, page_token=token)
                page = await channel.unary(
                    channel.pool.ListModels(request, timeout=NAMES_TIMEOUT_S)
                )
                models += page.models
                token = page.next_page_token
                if not token:
                    break
            self._feed(ev.CatalogueTold(self.host, messages.names(models)))
        except MemberLost:
            return
        except Exception as error:  # noqa: BLE001 - the member is followed nevertheless
            why = _why(error)
            if why != self._why_no_names:
                log.warning(
                    "a member does not tell the names of its models", member=self.host, why=why
                )
            self._why_no_names = why
        else:
            self._catalogue, self._why_no_names = catalogue, ""


class _Unfit(Exception):
    """The member cannot be followed, for the reason that the text says."""


def _code_of(error: BaseException) -> str:
    """Return the code of a call to a member that has ended by an error."""
    if isinstance(error, grpc.aio.AioRpcError):
        return str(error.code().name)
    if isinstance(error, MemberLost):
        return LOST
    # Its caller has left, or the stream was closed.
    return _CANCELLED


def _why(error: Exception) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return str(error) or "it is lost"
