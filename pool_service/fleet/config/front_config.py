"""The validated configuration of a front, and the values that the front is built from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from pool_service.address import Address
from pool_service.config.auth_section import AuthSection
from pool_service.config.client_section import ClientSection
from pool_service.config.etcd_section import EtcdKeys, EtcdSection, host_of
from pool_service.config.tls_section import TlsSection
from pool_service.config.trace_section import TraceSection
from pool_service.config.types import Section, SectionName
from pool_service.fleet.config.engines import (
    Discovery,
    Leader,
    LeaseName,
    ServiceName,
    discovery_of,
    leader_of,
)
from pool_service.fleet.config.sections import (
    FrontHttpSection,
    FrontSection,
    KubernetesSection,
    MemberSection,
    MemberTlsSection,
    RaySection,
)


@dataclass(frozen=True, slots=True)
class Member:
    """A member as the front has to treat it.

    address: host:port. lost_after_s: the silence after which it is lost. san: the name that its
    certificate must have. with_tls: whether it is called by TLS, as it is on another machine.
    """

    name: str
    address: str
    lost_after_s: float
    san: str
    with_tls: bool


@dataclass(frozen=True, slots=True)
class Credentials:
    """The files of a TLS connection: whom to trust, and what to show."""

    ca: Path
    cert: Path
    key: Path


class FrontConfig(Section):
    """A valid configuration of a front: all sections, with defaults for keys that are not set."""

    front: FrontSection
    members: Mapping[SectionName, MemberSection] = Field(default_factory=dict)
    member_tls: MemberTlsSection
    etcd: EtcdSection
    kubernetes: KubernetesSection
    ray: RaySection
    http: FrontHttpSection
    trace: TraceSection
    auth: AuthSection
    tls: TlsSection
    clients: Mapping[SectionName, ClientSection] = Field(default_factory=dict)

    @property
    def leader(self) -> Leader | None:
        """What decides which front leads; None: there is this front alone."""
        return leader_of(self.front.leader)

    @property
    def discovery(self) -> Discovery | None:
        """What knows the members; None: they are the static ones."""
        return discovery_of(self.front.discovery)

    @property
    def etcd_endpoints(self) -> tuple[str, ...]:
        """All addresses of etcd that the configuration names."""
        engines = (self.leader, self.discovery)
        return tuple(
            address
            for engine in engines
            if isinstance(engine, EtcdKeys)
            for address in engine.endpoints
        )

    @property
    def asks_kubernetes(self) -> bool:
        """Whether Kubernetes is asked for the members, or for the leader."""
        return isinstance(self.discovery, ServiceName) or isinstance(self.leader, LeaseName)

    @property
    def static_members(self) -> Mapping[str, str]:
        """The addresses of the members that the configuration names, by name."""
        return {name: section.address for name, section in self.members.items()}

    @property
    def member_credentials(self) -> Credentials | None:
        """The files for calls of members and of other fronts on other machines, if there are."""
        ca, cert, key = self.member_tls.ca, self.member_tls.cert, self.member_tls.key
        if ca is None or cert is None or key is None:
            return None
        return Credentials(ca, cert, key)

    def member(self, name: str, address: str) -> Member:
        """Return how to treat a member, also one that was discovered; without a name: a front."""
        section = self.members.get(name)
        shared = self.member_tls.san if name else self.member_tls.front_san
        lost_after = section.lost_after if section else None
        return Member(
            name,
            address,
            self.front.lost_after if lost_after is None else lost_after,
            (section.san if section else shared) or host_of(address),
            not Address.parse(address).is_local,
        )
