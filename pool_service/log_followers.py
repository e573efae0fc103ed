"""The logs of servers for callers: lines, over restarts and generations, for as long as they like.

A follower has no buffer. It reads a part, hands it out, and reads the next one when that is sent: a
slow reader falls behind, up to what is trimmed meanwhile, and costs nothing. Reading a log is no
use of a server.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pool_service.core.call_error_texts import (
    log_not_found,
    logs_ended,
    too_many_followers,
    too_many_readers,
)
from pool_service.core.lifecycle import WITHOUT_PROCESS
from pool_service.core.machine import Machine
from pool_service.core.server import Exit, Phase, ServerId
from pool_service.core.server_logs import LogEnd, LogPart, LogPosition, LogQuery, Whence
from pool_service.log_watch import Known, LogWatch
from pool_service.ports import Logs
from pool_service.subscribers import Subscriber, Subscribers

MAX_FOLLOWERS = 64
"""Streams that follow a log at the same time."""

MAX_READERS = 64
"""Streams that read a log without following it at the same time, beside those that follow."""

DEFAULT_PROBED = ("/health", "/metrics")
"""The paths of vllm-mlx that are probed: for the logs of a model without a server."""

_TO_COME = (WITHOUT_PROCESS - {Phase.FAILED}) | {Phase.SPAWNING}
"""Phases in which a server has no process yet."""


class LogFollowers:
    """Streams what the servers of a model have written, and go on to write."""

    def __init__(
        self,
        machine: Machine,
        logs: Logs,
        subscribers: Subscribers,
        check_recovered: Callable[[], None],
    ) -> None:
        """check_recovered: raises Recovering until it is known which processes run."""
        self._check_recovered = check_recovered
        self._machine = machine
        self._logs = logs
        self._subscribers = subscribers
        self._watch = LogWatch(logs)
        self.follower_count = 0
        """Streams that follow a log at present."""
        self.reader_count = 0
        """Streams that read a log at present, and do not follow it."""
        self._is_closed = False

    async def read(self, model: str, query: LogQuery) -> AsyncGenerator[LogPart | LogEnd]:
        """Yield the lines that `query` describes, and the end of each process, in order.

        The first part of a query that follows, but after no position, is empty: it has the position
        only. Raises the PoolErrors of `TailLogs`.
        """
        self._check_recovered()
        name = self._machine.resolve(model)
        with self._counted(query), self._subscribers.subscribe(name) as subscriber:
            generations = _Generations(name, self._machine, self._logs, subscriber)
            position = await self._first(generations, query)
            if query.follow and position != query.begin:
                # So that nothing is lost if the stream breaks before the first line.
                yield LogPart((), position)
            while True:
                # Before the read, so that it finds all that an ended process has written.
                ended = generations.has_ended(position.generation)
                part = await generations.read(position, query, ended=ended)
                is_another = part.position.file_id != position.file_id
                position = part.position
                if not (ended or query.follow):
                    part = _with_rest(part, query)
                if part.lines or part.missed_bytes:
                    yield part
                # Another log than before may be that of a process which has not ended.
                if is_another or not part.at_end:
                    continue
                if ended and not position.is_ended:
                    position = replace(position, is_ended=True)
                    yield LogEnd(position, generations.exit_of(position.generation))
                following = await self._next(generations, position, part, query, ended=ended)
                if following is None:
                    return
                position = following

    def close(self) -> None:
        """End all that follow, with an error: the service ends."""
        self._is_closed = True
        self._watch.wake_all()

    @contextmanager
    def _counted(self, query: LogQuery) -> Iterator[None]:
        if query.follow and self.follower_count >= MAX_FOLLOWERS:
            raise too_many_followers(MAX_FOLLOWERS)
        if not query.follow and self.reader_count >= MAX_READERS:
            raise too_many_readers(MAX_READERS)
        self.follower_count += query.follow
        self.reader_count += not query.follow
        try:
            yield
        finally:
            self.follower_count -= query.follow
            self.reader_count -= not query.follow

    async def _first(self, generations: "_Generations", query: LogQuery) -> LogPosition:
        """Return where to begin; wait for the first log of a server that has none yet."""
        while True:
            position = await generations.find(query)
            if position is not None:
                return position
            if not (query.follow and generations.may_begin(query)):
                raise log_not_found(generations.model, await generations.kept())
            await self._wait(generations.subscriber)

    async def _next(
        self,
        generations: "_Generations",
        position: LogPosition,
        part: LogPart,
        query: LogQuery,
        *,
        ended: bool,
    ) -> LogPosition | None:
        """Return where to go on after the end of a log, once there may be more; None: nowhere."""
        following = await generations.after(position, query) if ended else None
        if following is None and query.follow:
            known = generations.known(position, part, ended=ended)
            await self._wait(generations.subscriber, known)
            return position
        return following

    async def _wait(self, subscriber: Subscriber, known: Known | None = None) -> None:
        """Wait for a change of the server, or of the log that is known. Raises ShuttingDown."""
        if self._is_closed:
            raise logs_ended()
        await self._watch.wait(subscriber, known)


def _with_rest(part: LogPart, query: LogQuery) -> LogPart:
    """Return the last part with the incomplete line, which comes again, whole, after its position.

    A query for no lines gets none.
    """
    if not part.at_end or not part.rest or query.lines == 0:
        return part
    return replace(part, lines=(*part.lines, part.rest))


class _Generations:
    """The logs of one model, and what the pool knows of the processes that write them."""

    def __init__(self, model: str, machine: Machine, logs: Logs, subscriber: Subscriber) -> None:
        self.model = model
        self.subscriber = subscriber
        self._machine = machine
        self._logs = logs
        self._probed: Collection[str] = DEFAULT_PROBED
        self._exits: dict[int, Exit] = {}
        self._ends: dict[int, int | None] = {}
        self._last: int | None = None
        """The generation after which there was no log when the server last changed."""

    async def kept(self) -> list[int]:
        """Return the generations whose logs are kept, the oldest first."""
        return sorted(await self._logs.generations(self.model), key=self._age)

    def _age(self, generation: int) -> tuple[bool, int]:
        """Return the sort key of a generation by age.

        The pool counts from 1 again if it has lost its records: a log with a number that was not
        given out since is older than all others.
        """
        known = self._machine.known(self.model)
        is_given_out = known is not None and generation <= known.last_generation
        server = self._machine.server(ServerId(self.model, generation))
        # A log that is there before its process is one of those.
        is_to_come = server is not None and server.phase in _TO_COME
        return is_given_out and not is_to_come, generation

    async def find(self, query: LogQuery) -> LogPosition | None:
        """Return the position at which a query begins; None if there is no such log."""
        self._update()
        kept = await self.kept()
        if isinstance(query.begin, LogPosition):
            return query.begin if kept else None
        generation = _generation(query.begin, kept)
        if generation is None:
            return None
        found = await self._logs.seek(self.model, generation, query.lines, self._probed)
        is_alone = not (query.follow or query.begin in {Whence.NEWEST, Whence.OLDEST})
        return replace(found, is_alone=is_alone) if found is not None else None

    def may_begin(self, query: LogQuery) -> bool:
        """Return whether a log that is not there may come, as a server is to be started."""
        is_any = not isinstance(query.begin, int) and query.begin is not Whence.PREVIOUS
        return is_any and self._machine.get(self.model) is not None

    def has_ended(self, generation: int) -> bool:
        """Return whether the process of a generation writes no more."""
        self._update()
        server = self._machine.server(ServerId(self.model, generation))
        return server is None or server.phase in WITHOUT_PROCESS

    def known(self, position: LogPosition, part: LogPart, *, ended: bool) -> Known:
        """Return what was read of a log to its end, to be told of more; ended: before that."""
        generation = position.generation

        def is_over() -> bool:
            return not ended and self.has_ended(generation)

        return Known(self.model, generation, part.state, is_over)

    def exit_of(self, generation: int) -> Exit | None:
        """Return how the process of a generation ended, if that is known."""
        return self._exits.get(generation)

    async def read(self, position: LogPosition, query: LogQuery, *, ended: bool) -> LogPart:
        """Return the next lines; none, at the end, if the log is not kept any more.

        Unless the query follows, a log that is written to ends where it ended at its first read.
        """
        end = None if query.follow or ended else await self._end_of(position.generation)
        part = await self._logs.read(
            self.model,
            position,
            self._probed,
            ended=ended,
            with_rest=not (ended or query.follow),
        )
        part = part or LogPart((), position, at_end=True)
        is_end = end is not None and part.position.offset >= end
        return replace(part, at_end=part.at_end or is_end)

    async def _end_of(self, generation: int) -> int | None:
        """Return the offset of the end of a log, as it was at the first call."""
        if generation not in self._ends:
            found = await self._logs.seek(self.model, generation, 0, ())
            self._ends[generation] = found.offset if found is not None else None
        return self._ends[generation]

    async def after(self, position: LogPosition, query: LogQuery) -> LogPosition | None:
        """Return the beginning of the log with which a query goes on; None if there is none."""
        generation = position.generation
        if generation == self._last or (position.is_alone and not query.follow):
            return None
        # Before the look: what changes meanwhile is noted later, and looked at again.
        self._last = generation
        age = self._age(generation)
        later = [each for each in await self.kept() if self._age(each) > age]
        return await self._logs.seek(self.model, later[0], None, ()) if later else None

    def _update(self) -> None:
        """Note what the pool knows of the servers of the model."""
        changed = self.subscriber.take()
        if changed is not None:
            self._last = None
        newest = self._machine.get(self.model), changed
        for server in newest:
            if server is not None and server.plan is not None:
                plan = server.plan
                self._probed = {plan.health_path, plan.ready_path, plan.use.path} - {""}
        for known in (*newest, self._machine.known(self.model)):
            if known is not None and known.last_exit is not None:
                self._exits[known.last_exit.generation] = known.last_exit


def _generation(begin: int | Whence, kept: Sequence[int]) -> int | None:
    """Return the generation with which to begin; None if its log is not kept."""
    if isinstance(begin, int):
        return begin if begin in kept else None
    place = {Whence.NEWEST: -1, Whence.PREVIOUS: -2, Whence.OLDEST: 0}[begin]
    return kept[place] if -len(kept) <= place < len(kept) else None
