"""Composition: builds the parts of one service from its configuration, and connects them."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pool_service.access.authentication import Authentication, Rules
from pool_service.access.fence import Fence
from pool_service.access.quotas import Quotas
from pool_service.adapters.access.token_file import FILE_NAME as TOKEN_FILE_NAME
from pool_service.adapters.access.token_file import TokenFile
from pool_service.adapters.event_log.event_writer import EventWriter
from pool_service.adapters.logs.log_reader import LogReader
from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.memory.memory import HostMemory
from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.control_groups import delegated_groups
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.records.leader_file import LeaderFile
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.records.revision_file import first_revision
from pool_service.adapters.runtime.advertised import address_notices
from pool_service.adapters.runtime.diagnosis import Diagnose
from pool_service.adapters.runtime.oom import OomWatch, oom_aware
from pool_service.adapters.runtime.registry import Runtimes, diagnose_of
from pool_service.adapters.sockets.peer_users import own_users, peer_users, unmapped_user
from pool_service.adapters.standby.standbys import Standbys
from pool_service.adapters.state_dir.directory_lock import StateDir
from pool_service.adapters.state_dir.takeover import (
    is_claimed,
)
from pool_service.adapters.system.clock import SystemClock
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.audit import Audit
from pool_service.change_history import History
from pool_service.client_registry import ClientRegistry
from pool_service.config import Config, ConfigSource
from pool_service.core.limits import Limits
from pool_service.core.server import Server
from pool_service.pool import Pool
from pool_service.ports import World
from pool_service.registration import Registrar, registrar_of
from pool_service.reloader import Reloader
from pool_service.rpc.authorization import Authorization
from pool_service.rpc.fleet_calls import FleetCalls
from pool_service.rpc.fleet_member import FleetMemberServicer
from pool_service.rpc.server import GrpcServer
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.tls import Tls
from pool_service.rpc.wire import Wire
from pool_service.shutdown import Shutdown
from pool_service.tracing_setup import traces_of

if TYPE_CHECKING:
    from pool_service.metering import Metering
    from pool_service.page.page import Page
    from pool_service.tracing.traces import Traces

log = structlog.get_logger("pool_service.app")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one service that its start, its end and its background tasks need."""

    pool: Pool
    server: GrpcServer
    admission: Admission
    metering: "Metering | None"
    traces: "Traces | None"
    shutdown: Shutdown
    reloader: Reloader
    runtimes: Runtimes
    standbys: Standbys
    prompts: PromptStore
    working_sets: asyncio.Queue[int]
    records: FileRecords
    events: EventWriter
    audit: Audit
    logs: LogStore
    limits: Limits
    registrar: Registrar


def compose(
    source: ConfigSource,
    config: Config,
    state: StateDir,
    certificates: CertificateKeeper | None = None,
) -> Parts:
    """Build all parts from the configuration; nothing is started yet. Needs a running loop.

    certificates: those of [tls]; None: there are none. Raises RegistrationFlaw.
    """
    service, registrar = config.service, registrar_of(config)
    clock, machine, notifications = SystemClock(), machine_memory(), ReadyNotifications()
    logs = LogStore(service.state_dir, keep=config.logs.keep, max_bytes=config.logs.max_bytes)
    records = FileRecords(service.state_dir, clock=clock)
    prompts = PromptStore(service.state_dir, service.prompt_cache_total)
    runtimes = Runtimes(
        config.all_runtime_options, service.state_dir, progress=_log_progress, prompts=prompts
    )
    working_sets, groups = asyncio.Queue[int](), delegated_groups(service.state_dir)
    standbys = Standbys(
        runtimes.standby_spec,
        service.state_dir,
        logs,
        notifications,
        working_sets.put_nowait,
        groups,
    )
    processes = LocalProcesses(
        service.state_dir,
        logs,
        diagnose_of=_diagnose_by_kind(OomWatch(group=groups.delegated)),
        standbys=standbys,
        prompts=prompts,
        groups=groups,
    )
    probe = HttpProbe(notifications, service.state_dir)
    events = EventWriter(service.state_dir)
    audit = Audit(events)
    fence, fleet = _fence(service.state_dir, clock), config.fleet.settings
    world = World(
        clock,
        runtimes,
        processes,
        standbys,
        probe,
        HostMemory(machine, standbys=lambda: standbys.identities, is_lost=probe.is_lost),
        records,
        events,
        LogReader(logs),
        partial(_notices, config.fleet.advertise, certificates, fence, registrar),
    )
    limits = config.limits(machine.total(), machine.default_budget())
    history = History[Server](
        first_revision(service.state_dir, time.time_ns() // 1_000_000), service.history
    )
    # The pool comes after its observers, and is asked only once it runs.
    admission, clients = _admission(config, audit)
    metering = _metering(config, clock, admission, lambda model: pool.models.is_listed(model))  # noqa: PLW0108
    traces = traces_of(config.trace.endpoint, lambda name: pool.models.resolve(name))  # noqa: PLW0108
    page = _page(config)
    observers = [part.observe for part in (metering, traces, page) if part is not None]
    pool = Pool(world, history, config.catalogue, limits, observers)
    groups.limit(limits.memory_budget)
    reloader = Reloader(source, config, machine, runtimes, pool, clients, groups, certificates)
    servicer = PoolServicer(
        pool, Wire(clock, fleet.name), reloader.reload, audit, Quotas(clock.now), fleet
    )
    server = GrpcServer(
        servicer,
        FleetMemberServicer(pool, servicer, fence, fleet),
        Authorization(admission, FleetCalls(fence)),
        inside=[traces.wrap] if traces is not None else [],
        outside=[metering.wrap] if metering is not None else [],
        tls=Tls(certificates, config.tls.token_addresses) if certificates is not None else None,
    )
    if metering is not None and page is not None:
        page.add_to(metering.routes, pool, servicer, clock)
    shutdown = Shutdown(
        pool,
        reloader,
        keep_servers=service.keep_servers,
        is_claimed=lambda: is_claimed(state.path),
        audit=audit,
    )
    return Parts(
        pool=pool,
        server=server,
        admission=admission,
        metering=metering,
        traces=traces,
        shutdown=shutdown,
        reloader=reloader,
        runtimes=runtimes,
        standbys=standbys,
        prompts=prompts,
        working_sets=working_sets,
        records=records,
        events=events,
        audit=audit,
        logs=logs,
        limits=limits,
        registrar=registrar,
    )


def _notices(
    advertised: str, certificates: CertificateKeeper | None, fence: Fence, registrar: Registrar
) -> list[str]:
    """Return what works less well than it should, besides the records: a sentence each."""
    of_certificates = certificates.notices if certificates else ()
    of_fleet = (*address_notices(advertised), fence.notice, *registrar.notices())
    return [*of_fleet, *of_certificates]


def _admission(config: Config, audit: Audit) -> tuple[Admission, ClientRegistry]:
    """Return the admission, and the registry of clients, which changes its rules."""
    rules = Rules()
    clients = ClientRegistry(rules, config)
    tokens = TokenFile(config.service.state_dir / TOKEN_FILE_NAME, clients.create)
    authentication = Authentication(rules, peer_users(), own_users(), time.time, unmapped_user())
    return Admission(authentication, audit, tokens.refresh), clients


def _fence(state_dir: Path, clock: SystemClock) -> Fence:
    """Return the fence against fronts that are out of date, as the last service has left it."""
    file = LeaderFile(state_dir)
    return Fence(file.read(), file.write, clock.now)


def _metering(
    config: Config,
    clock: SystemClock,
    admission: Admission,
    is_listed: Callable[[str], bool],
) -> "Metering | None":
    """Return what counts and serves the counts, if the configuration names an address for that."""
    if not config.http.listen:
        return None
    from pool_service.metering import Metering  # noqa: PLC0415  # no other service needs it

    return Metering(Address.parse(config.http.listen), clock, is_listed, admission)


def _page(config: Config) -> "Page | None":
    """Return the page of the pool, if it is to be served and there is a listener for that."""
    if not (config.http.listen and config.http.page):
        return None
    from pool_service.page.page import Page  # noqa: PLC0415  # no other service needs it

    return Page(config.service.state_dir, config.fleet.name)


def _diagnose_by_kind(watch: OomWatch) -> Callable[[str], Diagnose]:
    """Return the function that returns, for a kind of runtime, what explains its exits."""
    return lambda kind: oom_aware(diagnose_of(kind), watch)


def _log_progress(done: int, total: int, text: str) -> None:
    log.info("installing the runtime", done=done, total=total, step=text)
