"""The composition root of a front: runs it until a signal."""

import asyncio
import signal
import sys
from collections.abc import Callable

import structlog

from pool_service.adapters.memory.spare_memory import give_back_spare_memory, releaser
from pool_service.adapters.system.process_settings import raise_descriptor_limit, reset_signals
from pool_service.adapters.tls.certificate_files import CertificateFiles, CertificateFlaw
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from pool_service.address import Address, AddressError
from pool_service.background import in_background
from pool_service.core.errors import ConfigInvalid
from pool_service.fleet.composition import Parts, compose
from pool_service.fleet.config import FrontConfig, FrontSource
from pool_service.fleet.engine_choice import EngineFlaw
from pool_service.fleet.event_loop import loop_factory
from pool_service.log_stream import LogStream
from pool_service.logging_setup import configure_logging
from pool_service.socket_check import check_sockets

STOP_GRACE_S = 5.0
"""Time to finish the calls in progress. Holds go on at the members."""

END_SIGNALS = (signal.SIGTERM, signal.SIGINT)

EXTRAS = {"aiohttp": "kubernetes"}
"""The extra that brings a package, if it is not `fleet`."""

log = structlog.get_logger("pool_service.fleet")


def run(source: FrontSource, config: FrontConfig) -> int:
    """Run the front until SIGTERM or SIGINT; return its exit code.

    config: the configuration read from `source`. If an address or a certificate cannot be used,
    print the reason on stderr and return 1.
    """
    reset_signals()
    raise_descriptor_limit()
    try:
        addresses = [Address.parse(text) for text in config.front.listen]
        check_sockets(addresses)
        with LogStream(sys.stderr) as stream:
            configure_logging(config.front.log_format, config.front.log_level, stream)
            own = _own_certificates(config)
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(_serve(source, config, addresses, _certificates(config), own, stream))
    except ImportError as error:
        print(  # no log line: for the user who starts it
            f"pool-service: the package {error.name!r} is missing. Install the extra: pip install "
            f"'pool-service[{EXTRAS.get(error.name or '', 'fleet')}]'.",
            file=sys.stderr,
        )
        return 1
    except (AddressError, CertificateFlaw, EngineFlaw) as error:
        print(f"pool-service: {error}", file=sys.stderr)  # no log line: for the user who starts it
        return 1
    return 0


def _certificates(config: FrontConfig) -> CertificateKeeper | None:
    """Return the certificates of the configuration, if it has any. Raises CertificateFlaw."""
    tls = config.tls
    if tls.cert is None or tls.key is None:
        return None
    return CertificateKeeper(CertificateFiles(tls.cert, tls.key, tls.client_ca))


def _own_certificates(config: FrontConfig) -> CertificateKeeper | None:
    """Return what the front shows to members, if they are on other machines.

    Raises CertificateFlaw.
    """
    files = config.member_credentials
    if files is None:
        return None
    return CertificateKeeper(CertificateFiles(files.cert, files.key, files.ca, "member_tls", "ca"))


async def _serve(
    source: FrontSource,
    config: FrontConfig,
    addresses: list[Address],
    certificates: CertificateKeeper | None,
    own: CertificateKeeper | None,
    stream: LogStream,
) -> None:
    parts = compose(source, config, certificates, own)
    ended = asyncio.Event()
    bound = await _listening(parts, addresses, stream, ended)
    upkeep = [
        parts.server.keep_sockets(),
        parts.admission.keep_checking(),
        _say_when_serving(parts, bound),
        _stay_small(parts),
    ]
    upkeep += [keeper.keep() for keeper in (certificates, own) if keeper is not None]
    if parts.metering is not None:
        upkeep.append(parts.metering.keep_socket())
    following = asyncio.create_task(
        parts.fleet.run(
            parts.membership, parts.leadership, by_registry=config.discovery is not None
        )
    )
    following.add_done_callback(lambda _: ended.set())
    with _Signals(ended.set, parts):
        async with in_background(*upkeep):
            await ended.wait()
            await parts.server.set_not_serving()
            await parts.server.stop(STOP_GRACE_S)
    if parts.metering is not None:
        await parts.metering.stop()
    parts.leader.close()
    parts.audit.close()
    if following.done():
        # It ends by a failure only.
        following.result()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    if parts.traces is not None:
        await asyncio.to_thread(parts.traces.close())


async def _listening(
    parts: Parts, addresses: list[Address], stream: LogStream, ended: asyncio.Event
) -> list[str]:
    """Listen, and return the bound addresses of the calls.

    Raises AddressError if one address cannot be used; then the front listens on none.
    """
    metering = parts.metering
    # Metrics first: nobody may see the calls served, and then no front.
    if metering is not None:
        await metering.start(parts.fleet, lambda: stream.dropped_in_total, ended.is_set)
    try:
        return await parts.server.start(addresses)
    except AddressError:
        if metering is not None:
            await metering.stop()
        raise


async def _say_when_serving(parts: Parts, bound: list[str]) -> None:
    """Set the health to SERVING and print the addresses, once each member has told or is lost."""
    await parts.fleet.settled.wait()
    await parts.server.set_serving()
    for address in bound:
        print(f"listening on {address}", flush=True)  # for the program or user who started it


async def _stay_small(parts: Parts) -> None:
    """Give back the memory that is left of reading all members' servers at once; later of calls."""
    await parts.fleet.settled.wait()
    await asyncio.to_thread(releaser())
    await give_back_spare_memory()


class _Signals:
    """Handles the signals to end, and to read the configuration again, within a block."""

    def __init__(self, end: Callable[[], None], parts: Parts) -> None:
        self._end = end
        self._parts = parts
        self._loop = asyncio.get_running_loop()
        self._reloads = set[asyncio.Task[None]]()

    def __enter__(self) -> None:
        for number in END_SIGNALS:
            self._loop.add_signal_handler(number, self._end)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def __exit__(self, *_: object) -> None:
        for number in (*END_SIGNALS, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _reload(self) -> None:
        async def reload() -> None:
            try:
                await self._parts.reloader.reload()
            except ConfigInvalid:
                return  # the log says why

        task = self._loop.create_task(reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)
