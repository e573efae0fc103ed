"""Composition root: builds all parts from the configuration and runs the service."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from pool_service.adapters.memory.spare_memory import give_back_spare_memory
from pool_service.adapters.process.identity import visibility_flaw
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.state_dir.directory_lock import StateDir, StateDirError
from pool_service.adapters.state_dir.guard_keeper import GuardKeeper
from pool_service.adapters.state_dir.takeover import (
    LEAVE_SIGNAL,
    make_claimable,
    take,
    take_back,
    take_over,
)
from pool_service.adapters.system.event_loop import running_workers
from pool_service.adapters.system.process_settings import (
    FEW_DESCRIPTORS,
    disregard,
    raise_descriptor_limit,
    reset_signals,
)
from pool_service.adapters.tls.certificate_files import CertificateFiles, CertificateFlaw
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from pool_service.address import Address, AddressError
from pool_service.background import in_background
from pool_service.composition import Parts, compose
from pool_service.config import Config, ConfigSource
from pool_service.core.types import Identity
from pool_service.default_socket import socket_path
from pool_service.event_records import service as service_event
from pool_service.gateway_process import GatewayProcess, own_address
from pool_service.log_stream import LogStream
from pool_service.logging_setup import configure_logging
from pool_service.pool import Pool
from pool_service.registration import RegistrationFlaw
from pool_service.reloader import Reloader
from pool_service.rpc.server import GrpcServer
from pool_service.shutdown import DRAIN_SIGNALS, Shutdown
from pool_service.socket_check import check_sockets
from pool_service.startup_log import log_pool, log_runtime
from pool_service.tracing_setup import variables_for

STOP_GRACE_S = 5.0
"""Time to finish the calls in progress when the last server has ended."""

log = structlog.get_logger("pool_service.app")


@dataclass(frozen=True, slots=True)
class _Left:
    """Holds the parts of an ended service that outlive it: for the next one, or the process's end.

    certificates: those of [tls], if there are any.
    guards: guards that the next service reaps.
    unfinished: work that goes on in threads; each function waits for some of it, but not long.
    """

    certificates: CertificateKeeper | None = None
    guards: list[Identity] = field(default_factory=list)
    unfinished: list[Callable[[], None]] = field(default_factory=list)


def run(source: ConfigSource, config: Config) -> int:
    """Run the service until a signal ends it (`shutdown.py`); return its exit code.

    config: the configuration read from `source`. If the state directory or an address cannot be
    used, print the reason on stderr and return 1.
    """
    service = config.service
    if why := visibility_flaw():
        print(f"pool-service: {why}", file=sys.stderr)  # no log line: for the user who starts it
        return 1
    reset_signals()
    # A request to leave must not end this service before `Shutdown` handles it.
    signal.signal(LEAVE_SIGNAL, disregard)
    descriptors = raise_descriptor_limit()
    try:
        addresses = [Address.parse(text) for text in service.listen]
        http = [Address.parse(config.http.listen)] if config.http.listen else []
        check_sockets([*addresses, *http])
        take_directory = take_over if service.replace else take
        with LogStream(sys.stderr) as stream:
            configure_logging(service.log_format, service.log_level, stream)
            if descriptors < FEW_DESCRIPTORS:
                log.warning("few files may be open: raise the hard limit", open_files=descriptors)
            left = _Left(_certificates(config))
            directory = take_directory(service.state_dir)
            _serve_repeatedly(source, config, addresses, directory, left, stream)
    except (AddressError, CertificateFlaw, RegistrationFlaw, StateDirError) as error:
        print(f"pool-service: {error}", file=sys.stderr)  # no log line: for the user who starts it
        return 1
    return 0


def _certificates(config: Config) -> CertificateKeeper | None:
    """Return the certificates of the configuration, if it has any. Raises CertificateFlaw."""
    tls = config.tls
    if tls.cert is None or tls.key is None:
        return None
    return CertificateKeeper(CertificateFiles(tls.cert, tls.key, tls.client_ca))


def _serve_repeatedly(
    source: ConfigSource,
    config: Config,
    addresses: list[Address],
    state: StateDir | None,
    left: _Left,
    stream: LogStream,
) -> None:
    """Serve; serve again each time a service that was to take over ends before it serves.

    stream: of the service's own log.
    """
    try:
        while state is not None:
            with state:
                make_claimable(state.path)
                with asyncio.Runner() as runner:
                    runner.get_loop().set_default_executor(running_workers())
                    bound = runner.run(_serve(source, config, addresses, state, left, stream))
            # The closed loop has restored the signal's default action; a late request may come.
            signal.signal(LEAVE_SIGNAL, disregard)
            state = take_back(config.service.state_dir) if bound else None
            if state is not None:
                log.warning("the service that was to take over has ended; serving again")
                addresses = [Address.parse(text) for text in bound]
    finally:
        # Only now: a new service waits for the state directory.
        _finish(left)


def _finish(left: _Left) -> None:
    """Wait for what is unfinished; a signal to end changes nothing about that any more."""
    for number in (*DRAIN_SIGNALS, LEAVE_SIGNAL, signal.SIGHUP):
        signal.signal(number, disregard)
    for finish in left.unfinished:
        finish()


async def _serve(
    source: ConfigSource,
    config: Config,
    addresses: list[Address],
    state: StateDir,
    left: _Left,
    stream: LogStream,
) -> list[str]:
    """Serve until the shutdown; return the bound addresses if a new service takes over, else [].

    left: by earlier calls; this one adds its own. stream: of the service's own log.
    """
    parts = compose(source, config, state, left.certificates)
    service, pool, server = config.service, parts.pool, parts.server
    keeping = GuardKeeper(service.state_dir, service.orphan_grace, left=left.guards)
    bound = await _listening(parts, addresses, _default_socket(config), state, keeping, stream)
    upkeep = [
        parts.logs.run_janitor(),
        give_back_spare_memory(),
        _report_records(parts.records, server),
        server.keep_sockets(),
        parts.admission.keep_checking(),
        parts.reloader.apply_working_sets(parts.working_sets),
        log_runtime(parts.runtimes.default_program, parts.runtimes.sandbox_state),
    ]
    if parts.metering:
        upkeep.append(parts.metering.keep_socket())
    if left.certificates:
        upkeep.append(left.certificates.keep())
    async with (
        AsyncExitStack() as ending,
        _story(parts, bound),
        keeping as keeper,
        in_background(*upkeep),
    ):
        if traces := parts.traces:
            ending.callback(lambda: left.unfinished.append(traces.close()))
        await pool.recover(service.recovery_timeout)
        log_pool(service.state_dir, parts.limits.memory_budget, pool.totals())
        await server.set_serving()
        _finish_start(bound)
        # Last: the replaced service serves again unless this one has noted that it serves.
        state.release_claim()
        await _until_shutdown(parts, _gateway(config, bound, ending))
        state.announce(bound, is_ending=True)
        await server.set_not_serving()
        await _end(pool, parts.shutdown, keeper)
        await parts.standbys.close()
        await server.stop(STOP_GRACE_S)
        # The last spans are sent while the rest ends.
        await ending.aclose()
        if parts.metering:
            await parts.metering.stop()
        await parts.records.close()
        await _flush(parts.prompts, parts.shutdown)
        await asyncio.to_thread(parts.runtimes.close)
    # Without the default socket, which comes last.
    return bound[: len(addresses)] if parts.shutdown.leaving.is_set() else []


def _gateway(config: Config, bound: list[str], ending: AsyncExitStack) -> GatewayProcess:
    """Return the process of the gateway, started if there is to be one; `ending` stops it."""
    service = config.service
    gateway = GatewayProcess(service.log_format, variables_for(config.trace.endpoint))
    ending.push_async_callback(gateway.stop)
    address = own_address(bound) if service.with_gateway else None
    if address is not None:
        gateway.start(address)
    elif service.with_gateway:
        log.error("there is no gateway: the service has no address on loopback and no socket")
    return gateway


def _default_socket(config: Config) -> Path | None:
    """Return the path of the default socket; None if the service has none."""
    if not config.service.has_default_socket:
        return None
    try:
        return socket_path(config.service.state_dir)
    except AddressError as error:
        log.warning("there is no default socket", why=str(error))
        return None


@asynccontextmanager
async def _story(parts: Parts, bound: list[str]) -> AsyncIterator[None]:
    """Keep events within the block, the start and the end of the service first and last."""
    with parts.events:
        parts.events.write(service_event("started", os.getpid(), ", ".join(bound)))
        why = "by an internal error"
        try:
            yield
            why = "its servers are left running" if parts.shutdown.keep_servers else ""
        finally:
            parts.audit.close()
            parts.events.write(service_event("stopped", os.getpid(), why))


async def _end(pool: Pool, shutdown: Shutdown, keeper: GuardKeeper) -> None:
    """Stop all servers and dismiss their guard, or leave the servers to the next service."""
    if not shutdown.keep_servers and await _drained(pool, shutdown):
        await keeper.dismiss()
    else:
        await pool.leave()


async def _drained(pool: Pool, shutdown: Shutdown) -> bool:
    """Stop all servers; return False if a new service takes over the remaining ones meanwhile."""
    draining = asyncio.create_task(pool.shutdown())
    leaving = asyncio.create_task(shutdown.leaving.wait())
    await asyncio.wait((draining, leaving), return_when=asyncio.FIRST_COMPLETED)
    if draining.done():
        leaving.cancel()
        draining.result()
        return True
    draining.cancel()
    with suppress(asyncio.CancelledError):
        await draining
    return False


async def _flush(prompts: PromptStore, shutdown: Shutdown) -> None:
    """Flush kept prompts to the disk; leave that to a new service that takes over meanwhile."""
    flushing = asyncio.create_task(asyncio.to_thread(prompts.flush))
    leaving = asyncio.create_task(shutdown.leaving.wait())
    await asyncio.wait((flushing, leaving), return_when=asyncio.FIRST_COMPLETED)
    leaving.cancel()
    await asyncio.to_thread(prompts.close)
    await flushing


async def _listening(
    parts: Parts,
    addresses: list[Address],
    default_socket: Path | None,
    state: StateDir,
    keeping: GuardKeeper,
    stream: LogStream,
) -> list[str]:
    """Listen, note the bound addresses of the calls in the state directory and return them.

    Raises AddressError if one address of the service cannot be used; then it listens on none.
    """
    metering = parts.metering
    # Metrics first: nobody may see the calls served, or an address noted, and then no service.
    if metering:
        await metering.start(
            pool=parts.pool,
            guard_alive=lambda: keeping.is_alive,
            log_lines_dropped=lambda: stream.dropped_in_total,
            is_ending=parts.shutdown.requested.is_set,
        )
    try:
        bound = await parts.server.start(addresses, default_socket)
    except AddressError:
        if metering:
            await metering.stop()
        raise
    state.announce(bound)
    if state.degraded_reason:
        log.warning("the state directory is degraded", why=state.degraded_reason)
    return bound


async def _report_records(records: FileRecords, server: GrpcServer) -> None:
    """Keep the health of the records up to date, until cancelled."""
    degraded = False
    while True:
        await server.set_records_kept(kept=not degraded)
        degraded = await records.wait_for_change(degraded=degraded)


async def _until_shutdown(parts: Parts, gateway: GatewayProcess) -> None:
    """Wait until the service is to end, and tell that to its gateway.

    Looks for configuration problems, and lets fronts find the service, now that it serves.
    """
    async with (
        in_background(_look_for_problems(parts.reloader)),
        parts.registrar.registered(parts.shutdown.leaving.is_set),
    ):
        await parts.shutdown.requested.wait()
    gateway.end()


async def _look_for_problems(reloader: Reloader) -> None:
    # Leave out the default program: `log_runtime` logs its problems.
    await reloader.look_for_problems(("runtime", "command"))


def _finish_start(bound: list[str]) -> None:
    """Exclude the objects of the start from later garbage collections; print the addresses."""
    # These objects live as long as the process.
    gc.collect()
    gc.freeze()
    try:
        for address in bound:
            print(f"listening on {address}", flush=True)  # for the program or user who started it
    except OSError:
        # The reader of stdout has gone: serve all the same, and print nothing more.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
