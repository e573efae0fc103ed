"""The events of the front: what happened, or what was asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

from pool_service.fleet.core.values import CatalogueNames, Lead, Offer, Report, SeenServer


@dataclass(frozen=True, slots=True)
class MembersListed:
    """These are the members, from now on: each one's address by its name.

    by_registry: a registry says so, which may lose what it knows, and not an operator.
    """

    addresses: Mapping[str, str]
    by_registry: bool = False


@dataclass(frozen=True, slots=True)
class PatienceChanged:
    """Members are lost after so many seconds of silence: usually, and those that have their own."""

    usual: float
    of_members: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class MemberTold:
    """A member has told all its servers; its changes follow.

    revision: the one that its servers are of.
    """

    host: str
    servers: tuple[SeenServer, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class ServerChanged:
    """A member has told a change of a server. removed: it is no longer in the member's pool."""

    server: SeenServer
    removed: bool = False


@dataclass(frozen=True, slots=True)
class BeatAnswered:
    """A member has answered a beat."""

    host: str
    report: Report


@dataclass(frozen=True, slots=True)
class CatalogueTold:
    """A member has told the names of its catalogue."""

    host: str
    names: CatalogueNames


@dataclass(frozen=True, slots=True)
class SightLost:
    """A member is not seen any more: its connection has ended, or beats were not answered."""

    host: str
    why: str


@dataclass(frozen=True, slots=True)
class LeadChanged:
    """Another front may place, or none."""

    lead: Lead


@dataclass(frozen=True, slots=True)
class SeatRequested:
    """A call asks where to go. name: the model's name, or an alias."""

    request_id: int
    name: str
    runtime_model: str = ""
    download: bool | None = None


@dataclass(frozen=True, slots=True)
class SeatRefused:
    """A member has refused a call for a reason of its host; the call asks where else to go.

    reason: of the error. The others are as of SeatRequested.
    """

    request_id: int
    host: str
    reason: str
    name: str
    runtime_model: str = ""
    download: bool | None = None


@dataclass(frozen=True, slots=True)
class SeatLeft:
    """A call has ended, or waits no longer."""

    request_id: int


@dataclass(frozen=True, slots=True)
class OffersCame:
    """The members have answered what an Ensure would do; those that did not are left out."""

    round_id: int
    offers: Mapping[str, Offer]


@dataclass(frozen=True, slots=True)
class EvictionEnded:
    """The eviction of a copy has succeeded, or was refused."""

    host: str
    model: str


@dataclass(frozen=True, slots=True)
class TimeReached:
    """The next deadline has come."""


Event = (
    MembersListed
    | PatienceChanged
    | MemberTold
    | ServerChanged
    | BeatAnswered
    | CatalogueTold
    | SightLost
    | LeadChanged
    | SeatRequested
    | SeatRefused
    | SeatLeft
    | OffersCame
    | EvictionEnded
    | TimeReached
)
