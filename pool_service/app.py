"""The composition root: builds the parts from the configuration and runs them."""

import asyncio
import gc
import signal
import sys
import time
from contextlib import suppress

import structlog

from pool_service.adapters.clock import SystemClock
from pool_service.adapters.logs import LogStore
from pool_service.adapters.probe import HttpProbe
from pool_service.adapters.processes import LocalProcesses
from pool_service.adapters.runtime import CommandRuntime
from pool_service.adapters.state_dir import StateDir, StateDirError
from pool_service.config import Config
from pool_service.history import History
from pool_service.logging_setup import configure_logging
from pool_service.pool import Pool, World
from pool_service.rpc.address import Address, AddressError
from pool_service.rpc.server import Server
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.wire import Wire

STOP_GRACE = 5.0
"""Seconds for answers that are on their way when the last server has gone."""

log = structlog.get_logger("pool_service.app")


def run(config: Config) -> int:
    """Run the service until SIGTERM or SIGINT; return its exit code.

    Says on stderr why, and returns 1, where it cannot have its state directory or an
    address.
    """
    configure_logging(config.service.log_format, config.service.log_level)
    try:
        addresses = [Address.parse(text) for text in config.service.listen]
        with StateDir(config.service.state_dir) as state:
            asyncio.run(_serve(config, addresses, state))
    except (AddressError, StateDirError) as error:
        print(f"pool-service: {error}", file=sys.stderr)  # for who started it
        return 1
    return 0


async def _serve(config: Config, addresses: list[Address], state: StateDir) -> None:
    stopping = asyncio.Event()
    clock = SystemClock()
    logs = LogStore(
        config.service.state_dir, keep=config.logs.keep, max_bytes=config.logs.max_bytes
    )
    history = History(time.time_ns() // 1_000_000, config.service.history)
    pool = Pool(_world(config, clock, logs), history, config.catalogue, config.limits)
    server = Server(PoolServicer(pool, Wire(clock)))
    bound = await server.start(addresses)
    state.announce(bound)
    _stop_on_signals(stopping, pool)
    janitor = asyncio.create_task(logs.run_janitor(), name="log janitor")
    await server.serving()
    # What the imports left lives as long as the process: no later collection need look at it.
    gc.collect()
    gc.freeze()
    for address in bound:
        print(f"listening on {address}", flush=True)  # for who started it
    await stopping.wait()
    log.info("shutting down", servers=pool.totals().servers)
    await server.not_serving()
    await pool.shutdown()
    await server.stop(STOP_GRACE)
    janitor.cancel()
    with suppress(asyncio.CancelledError):
        await janitor


def _world(config: Config, clock: SystemClock, logs: LogStore) -> World:
    runtime = CommandRuntime(config.runtime_options, progress=_log_progress)
    processes = LocalProcesses(config.service.state_dir, logs, diagnose=runtime.diagnose)
    return World(clock, runtime, processes, HttpProbe())


def _stop_on_signals(stopping: asyncio.Event, pool: Pool) -> None:
    """The first signal begins the shutdown, each further one hurries it."""

    def on_signal(number: int) -> None:
        log.info("signal received", signal=signal.Signals(number).name)
        if stopping.is_set():
            pool.hurry()
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)


def _log_progress(done: int, total: int, text: str) -> None:
    log.info("installing the runtime", done=done, total=total, step=text)
