"""The commands of the front: what its driver is to do."""

from dataclasses import dataclass

from pool_service.core.errors import PoolError
from pool_service.fleet.core.values import Presence, Seat, SeenServer


@dataclass(frozen=True, slots=True)
class Connect:
    """Follow a member at an address."""

    host: str
    address: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Follow a member no longer."""

    host: str


@dataclass(frozen=True, slots=True)
class TellLead:
    """Tell a member at once who leads, by a beat."""

    host: str


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Cancel the calls at a member that is lost; each asks where else to go."""

    host: str


@dataclass(frozen=True, slots=True)
class AskOffers:
    """Ask members what an Ensure would do there."""

    round_id: int
    hosts: tuple[str, ...]
    name: str
    runtime_model: str
    download: bool | None


@dataclass(frozen=True, slots=True)
class OfLeader:
    """The leader is to be asked: this front may not place the model."""


@dataclass(frozen=True, slots=True)
class AsRefused:
    """No other host takes the call: its caller gets the refusal of this host."""

    host: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer a call that asks where to go."""

    request_id: int
    result: Seat | OfLeader | AsRefused | PoolError


@dataclass(frozen=True, slots=True)
class EvictCopy:
    """Evict the server of a model on a host, without force: the model has another one elsewhere."""

    host: str
    model: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell watchers the new state of a server, or (removed) that it is gone."""

    server: SeenServer
    removed: bool


@dataclass(frozen=True, slots=True)
class NotePresence:
    """Log that the front sees a member otherwise than before."""

    host: str
    presence: Presence
    why: str


@dataclass(frozen=True, slots=True)
class NoteUnlisted:
    """Log that a member stays at an address where the registry does not list it any more."""

    host: str
    address: str


Command = (
    Connect
    | Disconnect
    | TellLead
    | Interrupt
    | AskOffers
    | Answer
    | EvictCopy
    | Publish
    | NotePresence
    | NoteUnlisted
)
