"""Composition: builds the parts of a front from its configuration, and connects them."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import structlog

from pool_service.access.authentication import Authentication, Rules
from pool_service.access.fence import Fence
from pool_service.access.fence import Leader as SeenLeader
from pool_service.access.quotas import Quotas
from pool_service.adapters.sockets.peer_users import own_users, peer_users, unmapped_user
from pool_service.adapters.system.clock import SystemClock
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from pool_service.address import Address
from pool_service.admission import Admission
from pool_service.audit import Audit
from pool_service.change_history import History
from pool_service.client_registry import ClientRegistry
from pool_service.config.errors import ConfigError, key_name
from pool_service.core.errors import ConfigInvalid
from pool_service.fleet.config import FrontConfig, FrontSource, restart_needed
from pool_service.fleet.core.machine import Machine
from pool_service.fleet.core.values import SeenServer
from pool_service.fleet.engine_choice import leadership_of, membership_of
from pool_service.fleet.engines.static import StaticMembership
from pool_service.fleet.fleet import Feed, Fleet
from pool_service.fleet.members.link import GrpcLink, Manner
from pool_service.fleet.members.security import Security
from pool_service.fleet.ports import Leadership, Membership
from pool_service.fleet.rpc.forwarding import Forwarding
from pool_service.fleet.rpc.leader import Leader
from pool_service.fleet.rpc.servicer import FleetServicer
from pool_service.rpc.authorization import Authorization
from pool_service.rpc.fleet_calls import FleetCalls
from pool_service.rpc.server import GrpcServer
from pool_service.rpc.tls import Tls
from pool_service.tracing_setup import traces_of

if TYPE_CHECKING:
    from pool_service.fleet.metering import FrontMetering
    from pool_service.fleet.page import FrontPage
    from pool_service.tracing.traces import Traces

log = structlog.get_logger("pool_service.fleet")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of one front that its start and its end need."""

    fleet: Fleet[GrpcLink]
    server: GrpcServer
    admission: Admission
    metering: "FrontMetering | None"
    audit: Audit
    leader: Leader
    membership: Membership
    leadership: Leadership
    reloader: "Reloader"
    traces: "Traces | None"


class LoggedEvents:
    """Implements the port `Events` by the log: a front keeps nothing on disk."""

    def write(self, event: Mapping[str, object], at: float | None = None) -> None:
        """Log an event. at: its Unix time in seconds; None: now."""
        told = {key: value for key, value in event.items() if value not in ("", None)}
        log.info("call", **told, **({} if at is None else {"at": at}))


class Reloader:
    """Applies a changed configuration to a running front."""

    def __init__(
        self,
        source: FrontSource,
        config: FrontConfig,
        clients: ClientRegistry,
        fleet: Fleet[GrpcLink],
        membership: Membership,
        secure: "_Security",
    ) -> None:
        self._source = source
        self._started_with = config
        self.config = config
        self._clients = clients
        self._fleet = fleet
        self._membership = membership
        self._secure = secure

    async def reload(self) -> tuple[str, ...]:
        """Read the configuration and apply it; return the changed keys that need a restart.

        Raises ConfigInvalid, having changed nothing.
        """
        try:
            config = await asyncio.to_thread(self._source.load_again)
            self._secure.configure(config)
        except ConfigError as error:
            log.warning("reload refused", why=str(error))
            raise ConfigInvalid(f"{error}. Nothing was changed.") from error
        self.config = config
        self._clients.configure(config)
        self._fleet.set_lost_after(config.front.lost_after, lost_after(config))
        # With a discovery it names no members: those of before stay until the restart.
        if isinstance(self._membership, StaticMembership) and config.discovery is None:
            self._membership.replace(config.static_members)
        needed = restart_needed(self._started_with, config)
        log.info("reloaded", restart_needed=needed)
        return needed


def compose(
    source: FrontSource,
    config: FrontConfig,
    certificates: CertificateKeeper | None,
    own: CertificateKeeper | None,
) -> Parts:
    """Build all parts from the configuration; nothing is started yet. Needs a running loop.

    certificates: those of [tls]; own: those of [member_tls]; None: there are none. Raises
    ImportError if a package of an engine is missing, and EngineFlaw.
    """
    clock, name = SystemClock(), secrets.token_hex(8)
    secure = _Security(config, own)
    history = History[SeenServer](time.time_ns() // 1000, config.front.history)
    # The links come after the fleet, and are asked only once it runs.
    rules = Rules()
    audit = Audit(LoggedEvents())
    authentication = Authentication(rules, peer_users(), own_users(), time.time, unmapped_user())
    admission = Admission(authentication, audit, _nothing)
    metering = _metering(config, clock, admission)
    manner = Manner(
        name,
        lambda: fleet.epoch,
        lambda: reloader.config.front.beat,
        secure,
        metering.forwards if metering is not None else None,
    )

    def connect(host: str, address: str, feed: Feed) -> GrpcLink:
        return GrpcLink(host, address, feed, manner)

    page = _page(config)
    observers = [part.observe for part in (metering, page) if part is not None]
    fleet = Fleet(Machine(name, config.front.lost_after), clock, history, connect, observers)
    fleet.set_lost_after(config.front.lost_after, lost_after(config))
    clients = ClientRegistry(rules, config)
    membership = membership_of(config)
    reloader = Reloader(source, config, clients, fleet, membership, secure)
    leader = Leader(lambda: fleet.lead, secure, config.front.address, clock.now)
    fleet.on_lead = leader.follow
    ensured = metering.ensured if metering is not None else None
    forwarding = Forwarding(fleet, name, leader, ensured)
    servicer = FleetServicer(fleet, forwarding, reloader.reload, audit, Quotas(clock.now))
    traces = traces_of(config.trace.endpoint, lambda name: name)
    server = GrpcServer(
        servicer,
        None,
        Authorization(admission, FleetCalls(Fence(SeenLeader(), lambda _: "", clock.now))),
        inside=[traces.wrap] if traces is not None else [],
        outside=[metering.wrap] if metering is not None else [],
        tls=Tls(certificates, config.tls.token_addresses) if certificates is not None else None,
    )
    if metering is not None and page is not None:
        page.add_to(metering.routes, fleet, servicer, forwarding, clock)
    return Parts(
        fleet=fleet,
        server=server,
        admission=admission,
        metering=metering,
        audit=audit,
        leader=leader,
        membership=membership,
        leadership=leadership_of(config, name, clock.now),
        reloader=reloader,
        traces=traces,
    )


def _metering(
    config: FrontConfig, clock: SystemClock, admission: Admission
) -> "FrontMetering | None":
    """Return what counts and serves the counts, if the configuration names an address for that."""
    if not config.http.listen:
        return None
    from pool_service.fleet.metering import FrontMetering  # noqa: PLC0415  # no other front needs it

    return FrontMetering(Address.parse(config.http.listen), clock, admission)


def _page(config: FrontConfig) -> "FrontPage | None":
    """Return the page of all hosts, if it is to be served and there is a listener for that."""
    if not (config.http.listen and config.http.page):
        return None
    from pool_service.fleet.page import FrontPage  # noqa: PLC0415  # no other front needs it

    return FrontPage()


def lost_after(config: FrontConfig) -> Mapping[str, float]:
    """Return the seconds of silence after which members are lost that have their own."""
    members = config.members.items()
    return {name: one.lost_after for name, one in members if one.lost_after is not None}


class _Security:
    """Returns the security of connections, as the configuration says."""

    def __init__(self, config: FrontConfig, own: CertificateKeeper | None) -> None:
        self._config = config
        self._own = own

    def configure(self, config: FrontConfig) -> None:
        """Treat members as another configuration says, from their next connections on.

        Another discovery counts from the next start, and until then the members of before. Raises
        ConfigError if one of them is on another machine, and there are no certificates.
        """
        if self._config.discovery is not None or config.discovery is not None:
            return
        far = [
            name for name, at in config.static_members.items() if config.member(name, at).with_tls
        ]
        if far and self._own is None:
            raise ConfigError(
                f"{key_name(('members', far[0]))} is on another machine, and the front has started "
                "without member_tls, which is read only then. Restart the front"
            )
        self._config = self._config.model_copy(update={"members": config.members})

    def __call__(self, name: str, address: str) -> Security | None:
        member = self._config.member(name, address)
        if not member.with_tls or self._own is None:
            return None
        now = self._own.current
        credentials = grpc.ssl_channel_credentials(now.client_ca, now.key, now.chain)
        return Security(credentials, member.san)


async def _nothing() -> None:
    """Do nothing: a front has no tokens but those of its configuration."""
