"""Looks at the pool from outside: throughout, at quiet points, and when it is left for good."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from pool_service_client import AsyncPoolClient, Page, PoolError, RetryPolicy, Server
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.faults.invariants import vitals
from tools.soak import processes
from tools.soak.gate import Gate
from tools.soak.keeper import Keeper
from tools.soak.ledger import Ledger
from tools.soak.models import DRAIN_TIMEOUT, ORPHAN_GRACE, STOP_TIMEOUT
from tools.soak.watcher import Key, Watcher, key_of

PACE: Final = 0.5
"""Seconds between two looks."""
REST: Final = 60.0
"""Seconds in which the pool comes to rest if it is left alone: a stopped server must be found
wedged (6 s), or not ready in time under a new service (25 s), and drained (15 s); a guard that
died often is started again after up to 30 s."""
REPLAY: Final = 10.0
"""Seconds by which Watch may be behind List on a busy machine."""
MORE_DESCRIPTORS: Final = 12
MORE_THREADS: Final = 16
"""By how many two services at rest may differ: gRPC has threads and descriptors of its own that
come and go with its load."""


class Audit:
    """Every look either finds nothing or notes a violation."""

    def __init__(
        self,
        gate: Gate,
        keeper: Keeper,
        watcher: Watcher,
        mark: str,
        ledger: Ledger,
    ) -> None:
        self._gate = gate
        self._keeper = keeper
        self._watcher = watcher
        self._mark = mark
        self._ledger = ledger
        self._pool = AsyncPoolClient.connect(keeper.address, retry=RetryPolicy(attempts=1))
        self._zombies: set[tuple[int, float]] = set()
        self._nonces: dict[int, str] = {}
        self._first: tuple[int, int] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._look_at_processes()
            page = await self._page()
            if page is not None:
                await self._compare(page)
            await asyncio.sleep(PACE)

    async def close(self) -> None:
        """No more looks."""
        await self._pool.close()

    # --- throughout ---------------------------------------------------------------------

    async def _look_at_processes(self) -> None:
        """At most one live process for each model; zombies are buried by the next look."""
        running = await asyncio.to_thread(processes.found, self._mark)
        self._nonces.update((one.pid, one.nonce) for one in running)
        self._ledger.count("looks at processes")
        for one, other in await asyncio.to_thread(processes.overlapping, running):
            if not await self._is_told_beside(one, other):
                self._ledger.violation(f"two processes of one model live: {one} and {other}")
        pid = self._keeper.pid
        ended = await asyncio.to_thread(processes.zombies, pid) if pid else set()
        for zombie, _ in ended & self._zombies:
            self._ledger.violation(f"the service {pid} does not bury its child {zombie}")
        self._zombies = ended

    async def _is_told_beside(self, *pair: processes.Found) -> bool:
        """Return whether Watch tells that one, or whose descendant it is, is beside the other."""
        until = time.monotonic() + REPLAY
        nonces = {one.nonce for one in pair}
        while not any(self._nonces.get(pid) in nonces for pid in self._watcher.beside):
            if time.monotonic() > until:
                return False
            await asyncio.sleep(PACE)
        return True

    async def _page(self) -> Page | None:
        with suppress(PoolError):
            async for page in self._pool.pages(page_size=1000, timeout=10.0):
                return page
        return None

    async def _compare(self, page: Page) -> None:
        """The replay of Watch to List's revision is List."""
        keys = [key_of(server.message) for server in page.servers]
        if keys != sorted(set(keys), key=_in_bytes):
            self._ledger.violation(f"List is not in order, or has a server twice: {keys}")
        away = time.monotonic()
        replayed = await self._watcher.replayed(page.revision, REPLAY)
        if replayed is None:
            # A service that ended took its last changes with it.
            unseen = self._watcher.began_after(page.revision)
            if not unseen and not self._keeper.was_away(away, time.monotonic()):
                self._ledger.violation(f"Watch did not come to List's revision {page.revision}")
            return
        self._ledger.count("lists compared with Watch")
        listed = {key_of(server.message): _lasting(server.message) for server in page.servers}
        shown = {key: _lasting(server) for key, server in replayed.items()}
        if listed != shown:
            self._ledger.violation(f"List {listed} is not Watch's replay {shown}")

    # --- at quiet points ----------------------------------------------------------------

    async def quiet(self) -> None:
        """Everybody pauses: the pool must come to rest, and then nothing is left over."""
        async with self._gate.closed():
            self._ledger.event("quiet")
            await self.at_rest()
            await self._growth()
            self._ledger.count("quiet points")
            self._ledger.event("quiet is over")

    async def at_rest(self) -> None:
        """The service shows what runs, and has one guard, as soon as nothing moves any more."""
        await self._await_none("processes and List differ", self._differences)
        await self._await_none("there is not one guard", self._guards)

    async def _await_none(self, what: str, flaw: Callable[[], Awaitable[str]]) -> None:
        until = time.monotonic() + REST
        while found := await flaw():
            if time.monotonic() > until:
                self._ledger.violation(f"{what}, even after {REST:g} s at rest: {found}")
                return
            await asyncio.sleep(PACE)

    async def _differences(self) -> str:
        """Every process is of a listed server, and every listed process lives."""
        page = await self._page()
        if page is None:
            return "List fails"
        running = await asyncio.to_thread(processes.found, self._mark)
        leaders = {one.pid: one.nonce for one in running}
        listed = {server.pid for server in page.servers if server.pid}
        known = {leaders[pid] for pid in listed if pid in leaders}
        moving = [one.model for one in page.servers if one.message.state in _MOVING]
        strays = [one for one in running if one.nonce not in known]
        dead = [pid for pid in listed if pid not in leaders]
        # Nothing moves by itself of one that is stopped: it has to be found wedged.
        wedged = [one.model for one in page.servers if self._is_stopped(one)]
        if strays or dead or moving or wedged:
            what = f"not listed {strays}, listed and dead {dead}"
            return f"{what}, still moving {moving}, still stopped {wedged}"
        return ""

    def _is_stopped(self, server: Server) -> bool:
        return bool(server.pid) and self._watcher.life(server.message).is_stopped

    async def _guards(self) -> str:
        guards = await asyncio.to_thread(processes.guards, self._keeper.state_dir)
        return "" if len(guards) == 1 else str(guards)

    async def _growth(self) -> None:
        """Of the service, with nothing in the pool, against the first time."""
        with suppress(PoolError):
            await self._pool.evict_all(force=True, timeout=60.0)
        pid = self._keeper.pid
        assert pid is not None
        now = await asyncio.to_thread(vitals, pid)
        self._ledger.event(f"the service {pid} has {now}")
        self._ledger.measure("descriptors of the service at rest", now.descriptors)
        self._ledger.measure("threads of the service at rest", now.threads)
        self._ledger.measure("memory of the service at rest, MB", now.memory / 1e6)
        self._first = self._first or (now.descriptors, now.threads)
        descriptors, threads = self._first
        if now.descriptors > descriptors + MORE_DESCRIPTORS or now.zombies:
            self._ledger.violation(f"descriptors or zombies grow: {now}, at first {descriptors}")
        if now.threads > threads + MORE_THREADS:
            self._ledger.violation(f"threads grow: {now}, at first {threads}")

    # --- at the end ---------------------------------------------------------------------

    async def left_alone(self) -> None:
        """The service was killed for good: its guard ends all that runs, and then itself."""
        began = time.monotonic()
        until = began + ORPHAN_GRACE + DRAIN_TIMEOUT + 2 * STOP_TIMEOUT + REST
        while True:
            running = await asyncio.to_thread(processes.found, self._mark)
            guards = await asyncio.to_thread(processes.guards, self._keeper.state_dir)
            if not running and not guards:
                break
            if time.monotonic() > until:
                self._ledger.violation(f"left without a service: {running}, guards {guards}")
                return
            await asyncio.sleep(PACE)
        self._ledger.count("pools ended by their guard")
        self._ledger.measure("the guard's end of all", time.monotonic() - began)


_MOVING = frozenset(
    {
        pb.SERVER_STATE_QUEUED,
        pb.SERVER_STATE_STARTING,
        pb.SERVER_STATE_STOPPING,
        pb.SERVER_STATE_BACKING_OFF,
    }
)


def _in_bytes(key: Key) -> tuple[bytes, int]:
    """Return a server's place in List."""
    return key[0].encode(), key[1]


def _lasting(server: pb.Server) -> str:
    """All but what a use, or a look at the memory, changes alone."""
    copy = pb.Server()
    copy.CopyFrom(server)
    copy.ClearField("last_use_time")
    copy.ClearField("expire_time")
    copy.ClearField("footprint_bytes")
    copy.ClearField("peak_bytes")
    return str(copy)
