"""Ending orphaned servers: the guard's work when no service has come within the grace period.

Orphaned are all servers of the service that is gone. (`LocalProcesses.orphans` has a narrower
meaning: the processes without a record.)
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.process.control_groups import delegated_groups
from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.state_dir.directory_lock import (
    StateDir,
    StateDirError,
    StateDirHeld,
    StateDirUnwritable,
)
from pool_service.adapters.system.clock import SystemClock
from pool_service.core import draining as drain
from pool_service.core import lifecycle as life
from pool_service.core.server import Cause, Phase, Server, StopSignal
from pool_service.core.types import ExitReport, Identity, Settings
from pool_service.logging_setup import configure_logging
from pool_service.ports import Clock, Probe, Records

CLEAN_UP_LIMIT_S = 30.0
"""The time limit of the clean-up of one server's process tree: a process that even SIGKILL does not
end, as it hangs in the kernel, must not keep the next service out of the state directory."""

DOING = (
    "is the guard, which stops the servers that an earlier service left behind; try again in a "
    "moment"
)
"""What a second service tells of the guard, after its pid: see `StateDir.announce`."""

A = TypeVar("A")
B = TypeVar("B")

_log = structlog.get_logger("pool_service.guard")


def end_orphans(state_dir: Path) -> bool:
    """End all orphaned servers; return False if the caller is to try again later.

    False: another process holds the state directory, or it cannot be opened. True: the servers have
    been ended, or cannot be told from other programs, as the records are gone or not trustworthy.
    """
    configure_logging("text", "info")
    if not state_dir.is_dir():
        _log.warning("the state directory is gone, and with it all records", path=state_dir)
        return True
    try:
        with StateDir(state_dir) as state:
            state.announce((), doing=DOING)
            if state.degraded_reason:
                _log.warning("the state directory is degraded; going on", why=state.degraded_reason)
            asyncio.run(_end_until_sigterm(state_dir))
    except StateDirHeld:
        return False
    except StateDirUnwritable as error:
        _log.error("servers are left alone for now", error=str(error))
        return False
    except StateDirError as error:
        _log.error("servers are left alone: the records cannot be trusted", error=str(error))
    return True


async def _end_until_sigterm(state_dir: Path) -> None:
    """End all servers of the state directory; stop doing so at a SIGTERM."""
    prompts, records = PromptStore(state_dir), FileRecords(state_dir)
    processes = LocalProcesses(
        state_dir, LogStore(state_dir), prompts=prompts, groups=delegated_groups(state_dir)
    )
    orphans = Orphans(processes, records, SystemClock(), HttpProbe())

    async def end() -> None:
        await orphans.end_all()
        await asyncio.to_thread(prompts.flush)

    ending = asyncio.ensure_future(end())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.cancel)
    try:
        await ending
    except asyncio.CancelledError:
        _log.warning("SIGTERM: the guard ends; servers that still run are left to themselves")
    finally:
        await records.close()
        await asyncio.to_thread(prompts.close)


@dataclass(frozen=True, slots=True)
class _Orphan:
    """A process to end, and its recorded server, or a stand-in if there is no record."""

    server: Server
    identity: Identity
    is_recorded: bool


class Orphans:
    """The servers of a service that is gone. `end_all` stops them as the pool does.

    Each is drained, then signalled, with the limits of its own settings.
    """

    def __init__(
        self, processes: LocalProcesses, records: Records, clock: Clock, probe: Probe
    ) -> None:
        self._processes = processes
        self._probe = probe
        self._records = records
        self._clock = clock

    async def end_all(self) -> None:
        """End all servers of the earlier service, and remove their records."""
        found = await self._find()
        _log.info("no service came; stopping its servers", processes=len(found))
        await _gather(self._end, found)
        await self._records.settled()
        if self._records.degraded_reason:
            _log.warning(
                "cannot record that the servers have ended", why=self._records.degraded_reason
            )
        _log.info("done")

    async def _find(self) -> list[_Orphan]:
        """Take over the processes of the earlier service, recorded or not, and return them."""
        remembered = await self._records.load()
        for name in remembered.damaged:
            _log.warning("a record cannot be read", record=name)
        servers = [one for one in remembered.servers if one.phase not in life.WITHOUT_PROCESS]
        recorded = await _gather(self._adopt, servers)
        nonces = {server.plan.nonce for server in remembered.servers if server.plan}
        orphans = await self._processes.orphans(nonces)
        unrecorded = (_Orphan(self._stand_in(), each, is_recorded=False) for each in orphans)
        return [*filter(None, recorded), *unrecorded]

    async def _adopt(self, server: Server) -> _Orphan | None:
        process = await self._processes.adopt(server)
        return _Orphan(server, process.identity, is_recorded=True) if process else None

    def _stand_in(self) -> Server:
        """Return a stand-in for a server without a record: READY, so that it is drained."""
        now = self._clock.now()
        settings = Settings(runtime_model="")
        return Server("(unrecorded)", settings, Phase.READY, 0, now, now, 0.0, ready_at=now)

    async def _end(self, orphan: _Orphan) -> None:
        exiting = asyncio.ensure_future(self._processes.exited(orphan.identity))
        try:
            await self._stop(orphan, exiting)
        finally:
            exiting.cancel()

    async def _stop(self, orphan: _Orphan, exiting: "asyncio.Future[ExitReport]") -> None:
        """Stop a server, clean up after it and remove its record.

        exiting: the wait for the exit of the server's process.
        """
        server, identity = orphan.server, orphan.identity
        if is_alive(identity):
            cause = server.stop_cause or Cause.ORPHANED
            stopping = replace(orphan, server=life.stopping(server, cause))
            drained = await self._drain(stopping, exiting)
            server = await self._signal_until_gone(drained, exiting)
            if not exiting.done():
                _log.error(
                    "a server does not end even by SIGKILL", model=server.model, pid=identity.pid
                )
                return
        report, now = await exiting, self._clock.now()
        drain_time = drain.drain_time(server, report, now)
        server = life.exited(server, report, now)
        async with asyncio.timeout(CLEAN_UP_LIMIT_S + drain_time):
            await self._processes.clean_up(identity, server.endpoint, drain_time)
        if orphan.is_recorded:
            self._records.remove(server)
        _log.info("server gone", model=server.model, pid=identity.pid, detail=server.detail)

    async def _drain(self, orphan: _Orphan, exiting: "asyncio.Future[ExitReport]") -> _Orphan:
        """Wait until a server has no request in flight or its drain time is over.

        Return the orphan with the state of its drain.
        """
        if not drain.drains_first(orphan.server):
            return orphan
        server = drain.draining(orphan.server, self._clock.now())
        if orphan.is_recorded:
            self._records.put(server)
        while not exiting.done() and self._clock.now() < (server.drain_by or 0.0):
            limit = server.settings.probe_timeout
            use = await self._probe.check_activity(
                orphan.identity, server.plan, server.endpoint, limit
            )
            if use.requests == 0:
                break
            now = self._clock.now()
            server = drain.seen_busy(server, now)
            await asyncio.wait({exiting}, timeout=max(server.step_deadline - now, 0.0))
        return replace(orphan, server=server)

    async def _signal_until_gone(
        self, orphan: _Orphan, exiting: "asyncio.Future[ExitReport]"
    ) -> Server:
        """Send SIGTERM, SIGINT and SIGKILL, a step each, until the server is gone.

        Begin with the last signal of the earlier service, if it has already signalled the server.
        Return the server as it is after the last signal.
        """
        server, identity = orphan.server, orphan.identity
        stop = server.stop_signal or StopSignal.TERMINATE
        while True:
            now = self._clock.now()
            server = life.signalled(server, stop, now)
            if orphan.is_recorded:
                # Record the intent first: a service that starts now continues from it.
                self._records.put(server)
                await self._records.servers_settled()
            _log.info("signal", signal=stop.value, model=server.model, pid=identity.pid)
            await self._processes.signal(identity, stop)
            await asyncio.wait({exiting}, timeout=server.step_deadline - now)
            if exiting.done() or stop is StopSignal.KILL:
                return server
            stop = life.next_signal(server)


async def _gather(step: Callable[[A], Awaitable[B]], subjects: Sequence[A]) -> list[B]:
    """Run `step` for all subjects concurrently; return the results, and log failures."""
    results = await asyncio.gather(*map(step, subjects), return_exceptions=True)
    for subject, result in zip(subjects, results, strict=True):
        if isinstance(result, BaseException):
            _log.error("an orphan is left alone", orphan=repr(subject), exc_info=result)
    return [result for result in results if not isinstance(result, BaseException)]
