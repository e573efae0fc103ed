"""The composition root: builds the parts from the configuration and runs them."""

import asyncio
import gc
import signal
import sys
import time
from contextlib import suppress

import structlog

from pool_service.adapters.clock import SystemClock
from pool_service.adapters.guard_keeper import GuardKeeper
from pool_service.adapters.logs import LogStore
from pool_service.adapters.probe import HttpProbe
from pool_service.adapters.processes import LocalProcesses
from pool_service.adapters.records import FileRecords
from pool_service.adapters.runtime import CommandRuntime
from pool_service.adapters.state_dir import StateDir, StateDirError
from pool_service.adapters.takeover import LEAVE_SIGNAL, taken_over
from pool_service.config import Config
from pool_service.history import History
from pool_service.log_stream import LogStream
from pool_service.logging_setup import configure_logging
from pool_service.pool import Pool, World
from pool_service.rpc.address import Address, AddressError
from pool_service.rpc.server import Server
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.wire import Wire

STOP_GRACE = 5.0
"""Seconds for answers that are on their way when the last server has gone."""

DRAIN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What asks the service to end: a manager, Ctrl-C, a terminal that closes, Ctrl-\\."""

log = structlog.get_logger("pool_service.app")


def run(config: Config) -> int:
    """Run the service until one of DRAIN_SIGNALS or SIGUSR1; return its exit code.

    DRAIN_SIGNALS drain and stop the servers, or leave them if `keep_servers` is
    set; SIGUSR1 always leaves them, to a service that takes over. Says on stderr why,
    and returns 1, where it cannot have its state directory or an address.
    """
    service = config.service
    try:
        addresses = [Address.parse(text) for text in service.listen]
        take_state_dir = taken_over if service.replace else StateDir
        with LogStream(sys.stderr) as stream, take_state_dir(service.state_dir) as state:
            configure_logging(service.log_format, service.log_level, stream)
            asyncio.run(_serve(config, addresses, state))
    except (AddressError, StateDirError) as error:
        print(f"pool-service: {error}", file=sys.stderr)  # for who started it
        return 1
    return 0


async def _serve(config: Config, addresses: list[Address], state: StateDir) -> None:
    service = config.service
    clock = SystemClock()
    logs = LogStore(service.state_dir, keep=config.logs.keep, max_bytes=config.logs.max_bytes)
    records = FileRecords(service.state_dir, clock=clock)
    history = History(time.time_ns() // 1_000_000, service.history)
    world = _world(config, clock, logs, records)
    pool = Pool(world, history, config.catalogue, config.limits)
    server = Server(PoolServicer(pool, Wire(clock)))
    ending = Ending(pool, keep_servers=service.keep_servers)
    bound = await server.start(addresses)
    state.announce(bound)
    async with GuardKeeper(service.state_dir, service.orphan_grace) as keeper:
        janitor = asyncio.create_task(logs.run_janitor(), name="log janitor")
        teller = asyncio.create_task(_tell_of_records(records, server), name="health of records")
        await pool.recover(service.recovery_timeout)
        await server.serving()
        _announce(bound)
        await ending.wanted.wait()
        await server.not_serving()
        if ending.keep_servers:
            await pool.leave()
        else:
            await pool.shutdown()
            await keeper.dismiss()
        await server.stop(STOP_GRACE)
        await records.close()
        for task in (janitor, teller):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _tell_of_records(records: FileRecords, server: Server) -> None:
    troubled = False
    while True:
        await server.records_kept(kept=not troubled)
        troubled = await records.turned(troubled=troubled)


def _announce(bound: list[str]) -> None:
    # What the imports left lives as long as the process: no later collection need look at it.
    gc.collect()
    gc.freeze()
    for address in bound:
        print(f"listening on {address}", flush=True)  # for who started it


def _world(config: Config, clock: SystemClock, logs: LogStore, records: FileRecords) -> World:
    runtime = CommandRuntime(config.runtime_options, progress=_log_progress)
    processes = LocalProcesses(config.service.state_dir, logs, diagnose=runtime.diagnose)
    return World(clock, runtime, processes, HttpProbe(), records)


class Ending:
    """How the service is to end. The first signal says it, each further one hurries."""

    def __init__(self, pool: Pool, *, keep_servers: bool) -> None:
        self.wanted = asyncio.Event()
        self.keep_servers = keep_servers
        self._pool = pool
        loop = asyncio.get_running_loop()
        for number in (*DRAIN_SIGNALS, LEAVE_SIGNAL):
            # nohup: whoever ignores it has decided so.
            if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._on_signal, number)

    def _on_signal(self, number: signal.Signals) -> None:
        log.info("signal received", signal=number.name)
        if self.wanted.is_set():
            # A terminal that closes can send it more than once, and nobody means to hurry.
            if number is not signal.SIGHUP:
                self._pool.hurry()
            return
        self.keep_servers = self.keep_servers or number is LEAVE_SIGNAL
        log.info("shutting down", servers="left running" if self.keep_servers else "drained")
        self.wanted.set()


def _log_progress(done: int, total: int, text: str) -> None:
    log.info("installing the runtime", done=done, total=total, step=text)
