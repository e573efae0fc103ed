"""Callers: each asks for something, looks at the answer, thinks for a moment, and asks again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

from grpc import StatusCode

from pool_service_client import AsyncPoolClient, PoolError, RetryPolicy, Server, ServerState
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.faults.invariants import DOCUMENTED
from tools.soak.gate import Gate
from tools.soak.keeper import RECONNECT, Keeper
from tools.soak.ledger import Ledger
from tools.soak.models import GRACE_PERIOD, Model
from tools.soak.streams import Fate, Stream, stream
from tools.soak.watcher import Life, Watcher

T = TypeVar("T")

THINKS: Final = 4.0
"""Seconds between two calls of one caller, on average."""
PATIENCE_S: Final = 45.0
"""Seconds that a caller gives a start."""
EVICTION: Final = 30.0
LATE: Final = 3.0
"""Seconds by which an answer may miss its deadline on a machine that does other things."""
EVIDENCE: Final = 40.0
"""Seconds until Watch must have told why a server was not there any more."""
HERD: Final = 20
LONGEST_HOLD: Final = 3.0
TOKENS: Final = (5, 30)
"""Of a stream. The longest takes 0.6 s: one of each caller, one after the other, stay below
the drain timeout."""

EVER: Final = frozenset({"SHUTTING_DOWN", "RECOVERING"})
TO_ENSURE: Final = EVER | {"EVICTED", "CRASH_LOOP"}
TO_EVICT: Final = EVER | {"SERVER_IN_USE"}


class Caller:
    """One caller with its own channel and its own chance, so that a seed repeats its choices."""

    def __init__(
        self,
        name: str,
        gate: Gate,
        keeper: Keeper,
        watcher: Watcher,
        known: list[Model],
        ledger: Ledger,
        chance: random.Random,
    ) -> None:
        self._name = name
        self._gate = gate
        self._keeper = keeper
        self._watcher = watcher
        self._models = known
        self._weights = [model.weight for model in known]
        self._ledger = ledger
        self._chance = chance
        self._pool = AsyncPoolClient.connect(keeper.address, retry=RetryPolicy(attempts=1))
        self._acts: dict[Callable[[], Awaitable[None]], float] = {
            self._stream: 54,
            self._stream_through_an_eviction: 8,
            self._ensure: 12,
            self._ensure_with_a_short_timeout: 6,
            self._cancel: 5,
            self._evict: 6,
            self._evict_by_force: 3,
            self._evict_idle: 2,
            self._evict_all: 0.6,
            self._evict_all_by_force: 0.4,
            self._herd: 1,
            self._hold: 8,
            self._reload: 2,
        }

    async def run(self) -> None:
        """Call until cancelled."""
        async with self._pool:
            while True:
                async with self._gate.passed():
                    acts, weights = list(self._acts), list(self._acts.values())
                    await self._chance.choices(acts, weights)[0]()
                await asyncio.sleep(self._chance.expovariate(1 / THINKS))

    # --- what it does -----------------------------------------------------------------

    def _model(self) -> Model:
        return self._chance.choices(self._models, self._weights)[0]

    async def _ensure(self) -> None:
        keep_alive = self._chance.choice([None, None, 0.0, 3.0])
        await self._ensured(self._model(), PATIENCE_S, keep_alive)

    async def _ensure_with_a_short_timeout(self) -> None:
        await self._ensured(self._model(), self._chance.uniform(0.01, 1.0))

    async def _cancel(self) -> None:
        call = asyncio.create_task(self._ensured(self._model(), PATIENCE_S))
        await asyncio.wait({call}, timeout=self._chance.expovariate(2.0))
        if call.cancel():
            self._ledger.count("calls cancelled")
        with suppress(asyncio.CancelledError):
            await call

    async def _herd(self) -> None:
        model = self._model()
        servers = await asyncio.gather(*(self._ensured(model, PATIENCE_S) for _ in range(HERD)))
        self._ledger.count("herds")
        pids = {(one.generation, one.pid) for one in servers if one}
        if len({generation for generation, _ in pids}) != len(pids):
            self._ledger.violation(f"a herd got several processes of one generation: {pids}")

    async def _hold(self) -> None:
        """For a moment, in which servers, service and guard may die: it has to be READY again."""
        model, began = self._model(), time.monotonic()
        try:
            async with self._pool.hold(model.name, holder=self._name) as hold:
                server = await hold.ready(timeout=PATIENCE_S)
                self._ledger.count("Hold: READY")
                if server.state is not ServerState.READY or server.model != model.name:
                    self._ledger.violation(f"Hold of {model.name} said that it is ready: {server}")
                await asyncio.sleep(self._chance.uniform(0.0, LONGEST_HOLD))
        except PoolError as error:
            self._look_at("Hold", error, began, PATIENCE_S, self._reasons(model))

    async def _reload(self) -> None:
        self._keeper.change_configuration()
        await self._called("Reload", self._pool.reload(timeout=EVICTION), EVICTION, lambda: EVER)

    async def _evict(self) -> None:
        await self._evicted("one", self._pool.evict(self._model().name, timeout=EVICTION))

    async def _evict_by_force(self) -> None:
        name = self._model().name
        await self._evicted("one, by force", self._pool.evict(name, force=True, timeout=EVICTION))

    async def _evict_idle(self) -> None:
        await self._evicted("idle", self._pool.evict_idle(timeout=EVICTION))

    async def _evict_all(self) -> None:
        await self._evicted("all", self._pool.evict_all(timeout=EVICTION))

    async def _evict_all_by_force(self) -> None:
        await self._evicted("all, by force", self._pool.evict_all(force=True, timeout=EVICTION))

    async def _evicted(self, kind: str, call: Awaitable[tuple[object, ...]]) -> None:
        evicted = await self._called("Evict", call, EVICTION, lambda: TO_EVICT)
        self._ledger.count(f"evictions: {kind}")
        if evicted:
            self._ledger.count("servers evicted", len(evicted))

    async def _stream(self) -> None:
        await self._streamed(self._model())

    async def _stream_through_an_eviction(self) -> None:
        """By force: it has to wait for what is in flight."""
        model = self._model()
        streaming = asyncio.create_task(self._streamed(model))
        try:
            await asyncio.wait({streaming}, timeout=self._chance.uniform(0.0, 2.0))
            call = self._pool.evict(model.name, force=True, timeout=EVICTION)
            await self._evicted("one, by force, while it streams", call)
            await streaming
        finally:
            streaming.cancel()

    async def _streamed(self, model: Model) -> None:
        server = await self._ensured(model, PATIENCE_S)
        if server is None:
            return
        got_at = time.monotonic()
        said = await stream(server, self._chance.randint(*TOKENS))
        await self._judge(model, server, said, said.asked_at - got_at)

    # --- what it looks at ---------------------------------------------------------------

    async def _ensured(
        self, model: Model, deadline: float, keep_alive: float | None = None
    ) -> Server | None:
        self._ledger.count("ensures")
        call = self._pool.ensure(model.name, keep_alive=keep_alive, timeout=deadline)
        result = await self._called("Ensure", call, deadline, lambda: self._reasons(model))
        if result is None:
            return None
        server = result.server
        if server.state is not ServerState.READY or not server.endpoint or not server.pid:
            self._ledger.violation(f"Ensure returned a server that is not ready: {server}")
        if server.model != model.name or server.served_model_name != model.name:
            self._ledger.violation(f"Ensure of {model.name} returned {server}")
        return server

    def _reasons(self, model: Model) -> frozenset[str]:
        """What Ensure may answer now: a start that we stopped by SIGSTOP comes to its limit."""
        stopped = any(
            life.stopped_by_us
            for (name, _), life in self._watcher.lives.items()
            if name == model.name
        )
        return TO_ENSURE | model.reasons | ({"START_TIMEOUT"} if stopped else frozenset())

    async def _called(
        self,
        method: str,
        call: Awaitable[T],
        deadline: float,
        reasons: Callable[[], frozenset[str]],
    ) -> T | None:
        """The answer; None for an error that is documented. Anything else is a violation."""
        began = time.monotonic()
        try:
            answer = await call
        except PoolError as error:
            self._look_at(method, error, began, deadline, reasons())
            answer = None
        else:
            self._ledger.count(f"{method}: OK")
        took = time.monotonic() - began
        self._ledger.measure(method, took)
        if took > deadline + LATE:
            self._ledger.violation(f"{method} took {took:.1f} s, its deadline was {deadline:g} s")
        return answer

    def _look_at(
        self, method: str, error: PoolError, began: float, deadline: float, reasons: frozenset[str]
    ) -> None:
        now = time.monotonic()
        name = error.reason or error.code.name
        self._ledger.count(f"{method}: {name}")
        if error.reason:
            expected = error.reason in reasons and error.reason in DOCUMENTED
        elif error.code is StatusCode.DEADLINE_EXCEEDED:
            expected = now - began >= deadline - 0.1
        else:
            away = self._keeper.was_away(began, now)
            expected = error.code is StatusCode.UNAVAILABLE and away
        if not expected:
            what = f"{error.code.name} {name} after {now - began:.2f} s: {error}"
            self._ledger.violation(f"{self._name}: {method} failed with {what}")

    async def _judge(self, model: Model, server: Server, said: Stream, idle: float) -> None:
        """Count a stream; it may have been cut by us, by its own model, or at the drain timeout."""
        if said.fate is Fate.WHOLE:
            self._ledger.count("streams whole")
            return
        life = self._watcher.life(server.message)
        why = await self._excuse(model, life, said, idle)
        kind = said.fate.name.lower()
        self._ledger.count(f"streams {kind}: {why or 'VIOLATION'}")
        where = f"{model.name} #{server.generation} pid {server.pid}"
        self._ledger.event(f"{self._name}: stream of {where} {kind}: {why}")
        if not why:
            self._ledger.violation(f"a stream of {where} was {kind}: {said.text[-200:]!r}")

    async def _excuse(self, model: Model, life: Life, said: Stream, idle: float) -> str:
        until = time.monotonic() + EVIDENCE
        while True:
            if life.killed_by_us:
                return "by a kill of ours"
            if model.mortal:
                return "by the model's own death"
            if said.fate is Fate.REFUSED and self._had_left(life, idle):
                return "it was being stopped"
            if said.fate is Fate.CUT and self._was_over_limit(life, model, said):
                return "at the drain timeout"
            if time.monotonic() > until or said.fate not in {Fate.REFUSED, Fate.CUT}:
                return ""
            await asyncio.sleep(0.1)

    def _had_left(self, life: Life, idle: float) -> bool:
        """Whether it had gone before the request came; never for idleness so soon after."""
        in_residency = life.cause == pb.EXIT_CAUSE_IDLE and idle < GRACE_PERIOD / 2
        return life.leaves and not in_residency

    def _was_over_limit(self, life: Life, model: Model, said: Stream) -> bool:
        if life.stopping_at is None:
            return False
        # Watch tells of it a moment after it was signalled; longer where the service was away.
        return said.ended_at - life.stopping_at >= model.drain_timeout - RECONNECT
