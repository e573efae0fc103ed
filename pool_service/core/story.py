"""Stories: the last decisions about each model: what changed, on what event, and why.

`Stories` is bounded in decisions a model and in models. Only changes of phase and preemption
choices are noted, so that handing out a READY server costs nothing more.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from pool_service.core.admission import Capacity, PreemptionClass, Resident
from pool_service.core.preemption_policy import worth
from pool_service.core.server import Phase, Role, ServerId

DECISIONS_KEPT = 32
"""The number of decisions kept of each model: enough for several starts with their ends."""

MODELS_KEPT = 1024
"""The number of models whose decisions are kept; beyond it those longest unchanged are dropped."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """A server as a preemption choice weighed it.

    freed: bytes that its end frees; worth: its retention value in seconds, see
    `preemption_policy.py`.
    """

    server_id: ServerId
    preemption_class: PreemptionClass
    freed: int
    worth: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The figures of an admission or a preemption choice. Sizes in bytes; FOREVER: no limit.

    needed: the estimate of the model.
    budget, reserved, available: see `admission.Capacity`.
    chosen, passed_over: the servers that are preempted for it, and those that stay.
    """

    needed: int
    budget: float
    reserved: int
    available: float
    chosen: tuple[Weighed, ...]
    passed_over: tuple[Weighed, ...]

    @property
    def chosen_ids(self) -> frozenset[ServerId]:
        """The ids of the servers that are preempted."""
        return frozenset(one.server_id for one in self.chosen)


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of the pool about a server.

    at: seconds of the pool's clock.
    event: the class name of the event that led to it.
    before, after: the phases; None: not in the pool; equal if only its reason to wait changed.
    why: in words.
    choice: the figures, if the decision is an admission or a preemption choice.
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
    """Keep the last decisions about each model."""

    def __init__(self) -> None:
        self._by_model: dict[str, deque[Decision]] = {}

    def add(self, decision: Decision) -> None:
        """Add a decision to the story of its model, unless it repeats the last one."""
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


def admission(capacity: Capacity, needed: int) -> Choice:
    """Return the figures of the admission of a model that needs `needed` bytes."""
    return Choice(needed, capacity.budget, capacity.reserved, capacity.available, (), ())


def preemption(capacity: Capacity, needed: int, chosen: Iterable[ServerId]) -> Choice:
    """Return the figures of preempting `chosen` for `needed` bytes."""
    ids, residents = set(chosen), capacity.residents()
    going = [_weighed(one) for one in residents if one.candidate.server_id in ids]
    staying = [_weighed(one) for one in residents if one.candidate.server_id not in ids]
    return Choice(
        needed, capacity.budget, capacity.reserved, capacity.available, tuple(going), tuple(staying)
    )


def _weighed(resident: Resident) -> Weighed:
    candidate = resident.candidate
    return Weighed(
        candidate.server_id, resident.preemption_class, candidate.freed, worth(candidate)
    )


def _says_the_same(last: Decision, new: Decision) -> bool:
    """Return whether a server still waits for the same, with the same servers chosen."""
    is_waiting = new.before is new.after and last.after is new.after
    same = (last.server_id, last.role, last.why) == (new.server_id, new.role, new.why)
    chosen = [one.choice.chosen_ids if one.choice else None for one in (last, new)]
    return is_waiting and same and (new.choice is None or chosen[0] == chosen[1])
