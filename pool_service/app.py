"""The composition root: builds the parts from the configuration and runs them."""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.memory.machine_memory import MachineMemory, machine_memory
from pool_service.adapters.memory.memory import HostMemory
from pool_service.adapters.memory.spare_memory import give_back_spare_memory
from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.probe.ready_notify import ReadySigns
from pool_service.adapters.process.identity import blindness
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.records.revisions import first_revision
from pool_service.adapters.runtime.oom import OomWatch, oom_aware
from pool_service.adapters.runtime.registry import Runtimes, diagnose_of
from pool_service.adapters.standby.standbys import Standbys
from pool_service.adapters.state_dir.guard_keeper import GuardKeeper
from pool_service.adapters.state_dir.state_dir import StateDir, StateDirError
from pool_service.adapters.state_dir.takeover import (
    LEAVE_SIGNAL,
    is_preempted,
    make_claimable,
    taken,
    taken_back,
    taken_over,
)
from pool_service.adapters.system.child import (
    FEW_DESCRIPTORS,
    disregard,
    raise_descriptor_limit,
    reset_signals,
)
from pool_service.adapters.system.clock import SystemClock
from pool_service.adapters.system.event_loop import running_workers
from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.writers import first_flaw
from pool_service.address import Address, AddressError
from pool_service.config import Config, ConfigSource
from pool_service.core.types import Identity
from pool_service.ending import Ending
from pool_service.history import History
from pool_service.introduction import introduce_pool, introduce_runtime
from pool_service.log_stream import LogStream
from pool_service.logging_setup import configure_logging
from pool_service.pool import Pool
from pool_service.ports import World
from pool_service.reloader import Reloader
from pool_service.rpc.server import Server
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.wire import Wire

STOP_GRACE = 5.0
"""Seconds for answers that are on their way when the last server has gone."""

log = structlog.get_logger("pool_service.app")


def run(source: ConfigSource, config: Config) -> int:
    """Run the service until a signal ends it (`ending.py`); return its exit code.

    config: what `source` says now. Says on stderr why, and returns 1, where it cannot have
    its state directory or an address.
    """
    service = config.service
    if why := blindness():
        print(f"pool-service: {why}", file=sys.stderr)  # for who started it
        return 1
    reset_signals()
    signal.signal(LEAVE_SIGNAL, disregard)
    descriptors = raise_descriptor_limit()
    try:
        addresses = [Address.parse(text) for text in service.listen]
        _check_sockets(addresses)
        take = taken_over if service.replace else taken
        with LogStream(sys.stderr) as stream:
            configure_logging(service.log_format, service.log_level, stream)
            if descriptors < FEW_DESCRIPTORS:
                log.warning("few files may be open: raise the hard limit", open_files=descriptors)
            _serve_on(source, config, addresses, take(service.state_dir))
    except (AddressError, StateDirError) as error:
        print(f"pool-service: {error}", file=sys.stderr)  # for who started it
        return 1
    return 0


def _check_sockets(addresses: list[Address]) -> None:
    """Raise AddressError if others could put a socket of theirs in the place of one of ours."""
    for address in addresses:
        try:
            found = first_flaw([address.path.parent] if address.path else [])
        except OSError as error:
            raise AddressError(f"cannot listen on {address.text}: {reason(error)}.") from error
        if found is not None:
            raise AddressError(
                f"cannot listen on {address.text}: other users could put their own socket "
                f"there: {found}, or choose another path."
            )


def _serve_on(
    source: ConfigSource, config: Config, addresses: list[Address], state: StateDir | None
) -> None:
    """Serve, and again where it ended for a successor that then does not serve."""
    guards: list[Identity] = []
    while state is not None:
        with state:
            make_claimable(state.path)
            with asyncio.Runner() as runner:
                runner.get_loop().set_default_executor(running_workers())
                bound = runner.run(_serve(source, config, addresses, state, guards))
        # A service that has ended may be asked once more; the loop has put back the default.
        signal.signal(LEAVE_SIGNAL, disregard)
        state = taken_back(config.service.state_dir) if bound else None
        if state is not None:
            log.warning("the service that was to take over has gone; serving again")
            addresses = [Address.parse(text) for text in bound]


async def _serve(
    source: ConfigSource,
    config: Config,
    addresses: list[Address],
    state: StateDir,
    guards: list[Identity],
) -> list[str]:
    """Serve until told to end; return what was listened on if that was to leave for another."""
    service = config.service
    clock, machine, signs = SystemClock(), machine_memory(), ReadySigns()
    logs = LogStore(service.state_dir, keep=config.logs.keep, max_bytes=config.logs.max_bytes)
    records = FileRecords(service.state_dir, clock=clock)
    runtimes = Runtimes(
        config.all_runtime_options,
        service.state_dir,
        progress=_log_progress,
    )
    working_sets = asyncio.Queue[int]()
    standbys = Standbys(runtimes.recipe, service.state_dir, logs, signs, working_sets.put_nowait)
    world = _world(config, clock, machine, runtimes, logs, standbys, signs, records)
    limits = config.limits(machine.total(), machine.default_budget())
    history = History(
        first_revision(service.state_dir, time.time_ns() // 1_000_000), service.history
    )
    pool = Pool(world, history, config.catalogue, limits)
    reloader = Reloader(source, config, machine, runtimes, pool)
    server = Server(PoolServicer(pool, Wire(clock), reloader.reload))
    ending = Ending(
        pool,
        reloader,
        keep_servers=service.keep_servers,
        is_preempted=lambda: is_preempted(state.path),
    )
    bound = await _listening(server, addresses, state)
    upkeep = (
        *(logs.run_janitor(), give_back_spare_memory()),
        *(_tell_of_records(records, server), server.keep_sockets()),
        reloader.follow(working_sets),
        introduce_runtime(runtimes.default_program),
    )
    keeping = GuardKeeper(service.state_dir, service.orphan_grace, left=guards)
    async with keeping as keeper, _beside(*upkeep):
        await pool.recover(service.recovery_timeout)
        introduce_pool(service.state_dir, limits.memory_budget, pool.totals())
        await server.serving()
        _announce(bound)
        # Last: whoever was replaced serves again unless this one has told that it serves.
        state.serving()
        await _until_wanted(ending, reloader)
        await server.not_serving()
        await _end(pool, ending, keeper)
        await standbys.close()
        await server.stop(STOP_GRACE)
        await records.close()
    return bound if ending.leaving.is_set() else []


async def _end(pool: Pool, ending: Ending, keeper: GuardKeeper) -> None:
    if not ending.keep_servers and await _drained(pool, ending):
        await keeper.dismiss()
    else:
        await pool.leave()


async def _drained(pool: Pool, ending: Ending) -> bool:
    """Stop all servers; False if a service comes meanwhile that takes over what is left."""
    draining = asyncio.create_task(pool.shutdown())
    leaving = asyncio.create_task(ending.leaving.wait())
    await asyncio.wait((draining, leaving), return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        leaving.cancel()
        draining.result()
        return True
    draining.cancel()
    with suppress(asyncio.CancelledError):
        await draining
    return False


@asynccontextmanager
async def _beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do these until the block ends; one that fails is told, and ends neither it nor the others."""
    tasks = [asyncio.create_task(work) for work in works]
    for task in tasks:
        task.add_done_callback(_tell_of_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_of_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        work = getattr(task.get_coro(), "__name__", "")
        log.error("work beside the calls has failed", work=work, exc_info=error)


async def _listening(server: Server, addresses: list[Address], state: StateDir) -> list[str]:
    """Listen, note in the state directory where, and return that."""
    bound = await server.start(addresses)
    state.announce(bound)
    if state.trouble:
        log.warning("the state directory is in trouble", why=state.trouble)
    return bound


async def _tell_of_records(records: FileRecords, server: Server) -> None:
    troubled = False
    while True:
        await server.records_kept(kept=not troubled)
        troubled = await records.turned(troubled=troubled)


async def _until_wanted(ending: Ending, reloader: Reloader) -> None:
    """Return when the service is to end; looks for problems only now that it serves."""
    async with _beside(_look_for_problems(reloader)):
        await ending.wanted.wait()


async def _look_for_problems(reloader: Reloader) -> None:
    # What is the matter with the default program `introduce_runtime` says.
    await reloader.look_for_problems(("runtime", "command"))


def _announce(bound: list[str]) -> None:
    # What the imports left lives as long as the process: no later collection need look at it.
    gc.collect()
    gc.freeze()
    try:
        for address in bound:
            print(f"listening on {address}", flush=True)  # for who started it
    except OSError:
        # Who reads no more is served all the same; what could not be written is let go.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115


def _world(
    config: Config,
    clock: SystemClock,
    machine: MachineMemory,
    runtimes: Runtimes,
    logs: LogStore,
    standbys: Standbys,
    signs: ReadySigns,
    records: FileRecords,
) -> World:
    watch = OomWatch()
    processes = LocalProcesses(
        config.service.state_dir,
        logs,
        diagnose_of=lambda kind: oom_aware(diagnose_of(kind), watch),
        standbys=standbys,
    )
    memory = HostMemory(machine, standbys=lambda: standbys.identities)
    return World(clock, runtimes, processes, standbys, HttpProbe(signs), memory, records)


def _log_progress(done: int, total: int, text: str) -> None:
    log.info("installing the runtime", done=done, total=total, step=text)
