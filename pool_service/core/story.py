"""The last decisions about each model, as values: what changed, on what event, and why.

`Stories` is bounded twice: so many decisions a model, so many models. It is written on changes of
phase and on choices only, so that handing out a READY server costs nothing more.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pool_service.core.admission import EvictionClass, Resident, Room
from pool_service.core.eviction_policy import worth
from pool_service.core.server import Phase, Role, ServerId

DECISIONS_KEPT = 32
"""Decisions that are kept of each model: several starts with their ends."""

MODELS_KEPT = 1024
"""Models whose decisions are kept; of more, those of the models longest unchanged are dropped."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A server as it was weighed for an eviction.

    freed: bytes that come back when it goes; worth: seconds that keeping it is worth, see
    `replacement.py`.
    """

    server_id: ServerId
    eviction_class: EvictionClass
    freed: int
    worth: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The figures of a choice of servers to evict. Bytes; FOREVER where there is no limit.

    needed: what the model needs; chosen: the servers that are to go for it; passed_over: the
    servers that stay.
    """

    needed: int
    budget: float
    reserved: int
    available: float
    chosen: tuple[Weighed, ...]
    passed_over: tuple[Weighed, ...]

    @property
    def chosen_ids(self) -> frozenset[ServerId]:
        """Return the ids of the servers that are to go."""
        return frozenset(one.server_id for one in self.chosen)


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that the pool decided of a server.

    at: seconds of the pool's clock; event: the kind of the event that led to it; before, after:
    the phases, None where the server is not in the pool, equal where it only waits for something
    else; why: in words; choice: what was weighed, where something was.
    """

    at: float
    event: str
    server_id: ServerId
    role: Role
    before: Phase | None
    after: Phase | None
    why: str
    choice: Choice | None = None


class Stories:
    """The last decisions of each model, the oldest first."""

    def __init__(self) -> None:
        self._by_model: dict[str, deque[Decision]] = {}

    def add(self, decision: Decision) -> None:
        """Add a decision to the story of its model, unless that says the same already."""
        model = decision.server_id.model
        story = self._by_model.pop(model, None) or deque(maxlen=DECISIONS_KEPT)
        self._by_model[model] = story
        if not (story and _says_the_same(story[-1], decision)):
            story.append(decision)
        if len(self._by_model) > MODELS_KEPT:
            del self._by_model[next(iter(self._by_model))]

    def of(self, model: str) -> tuple[Decision, ...]:
        """Return the last decisions about a model, the oldest first."""
        return tuple(self._by_model.get(model, ()))


def admitted(room: Room, needed: int) -> Choice:
    """Return the figures by which a model that needs `needed` bytes fits."""
    return Choice(needed, room.budget, room.reserved, room.available, (), ())


def weighed(room: Room, needed: int, chosen: Iterable[ServerId]) -> Choice:
    """Return the figures of a choice: which servers go for `needed` bytes, and which stay."""
    ids, residents = set(chosen), room.residents()
    going = [_weighed(one) for one in residents if one.candidate.server_id in ids]
    staying = [_weighed(one) for one in residents if one.candidate.server_id not in ids]
    return Choice(needed, room.budget, room.reserved, room.available, tuple(going), tuple(staying))


def _weighed(resident: Resident) -> Weighed:
    candidate = resident.candidate
    return Weighed(candidate.server_id, resident.eviction_class, candidate.freed, worth(candidate))


def _says_the_same(last: Decision, new: Decision) -> bool:
    """Return whether a server waits for the same, by the same choice, as it did before."""
    is_waiting = new.before is new.after and last.after is new.after
    same = (last.server_id, last.role, last.why) == (new.server_id, new.role, new.why)
    chosen = [one.choice.chosen_ids if one.choice else None for one in (last, new)]
    return is_waiting and same and (new.choice is None or chosen[0] == chosen[1])
