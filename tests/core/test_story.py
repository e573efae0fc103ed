"""The last decisions about each model: what is kept, what is told twice, and what they say."""

from dataclasses import replace

import pytest

from pool_service.core import commands, story
from pool_service.core.admission import Capacity, PreemptionClass, Resident
from pool_service.core.catalogue import Catalogue
from pool_service.core.errors import ModelRejected
from pool_service.core.events import (
    EnsureRequested,
    EstimateFailed,
    Exited,
    HoldRequested,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.preemption_policy import Candidate
from pool_service.core.server import Phase, Role, ServerId
from pool_service.core.story import (
    DECISIONS_KEPT,
    MODELS_KEPT,
    Choice,
    Decision,
    Stories,
    Weighed,
)
from pool_service.core.types import FOREVER, Settings
from tests.core.acting import drive, look, report
from tests.core.invariants import Ledger
from tests.core.parts import NOW


def waits(why: str, at: float = NOW, choice: Choice | None = None, model: str = "m") -> Decision:
    """Return the decision that a server goes on waiting for something."""
    queued = Phase.QUEUED
    return Decision(
        at, "MemorySampled", ServerId(model, 1), Role.CURRENT, queued, queued, why, choice
    )


def chosen(*models: str) -> Choice:
    """Return the choice of these models' servers."""
    going = [Weighed(ServerId(model, 1), PreemptionClass.UNUSED, 3, 1.0) for model in models]
    return Choice(4, 6.0, 3, 100.0, tuple(going), ())


# --- what is kept ---------------------------------------------------------------------------


def test_of_a_model_so_many_decisions_are_kept_the_last_ones() -> None:
    stories = Stories()
    for number in range(DECISIONS_KEPT + 3):
        stories.add(waits(f"for {number}"))
    kept = [one.why for one in stories.of("m")]
    assert kept == [f"for {number}" for number in range(3, DECISIONS_KEPT + 3)]


def test_of_so_many_models_the_ones_longest_unchanged_are_forgotten() -> None:
    stories = Stories()
    for number in range(MODELS_KEPT):
        stories.add(waits("for memory", model=f"m{number}"))
    stories.add(waits("for its turn", model="m0"))
    assert len(stories.of("m1")) == 1
    stories.add(waits("for memory", model="new"))
    assert [one.why for one in stories.of("m0")] == ["for memory", "for its turn"]
    assert stories.of("m1") == ()


def test_a_decision_that_says_nothing_new_keeps_its_model_from_being_forgotten() -> None:
    stories = Stories()
    for number in range(MODELS_KEPT):
        stories.add(waits("for memory", model=f"m{number}"))
    stories.add(waits("for memory", model="m0"))
    stories.add(waits("for memory", model="new"))
    assert len(stories.of("m0")) == 1


def test_of_a_model_never_heard_of_there_is_no_story() -> None:
    assert Stories().of("m") == ()


# --- what is told twice ---------------------------------------------------------------------


def test_the_same_wait_is_told_once_with_the_time_when_it_began() -> None:
    stories = Stories()
    for at in (NOW, NOW + 1.0, NOW + 2.0):
        stories.add(waits("for memory", at))
    assert stories.of("m") == (waits("for memory", NOW),)


def test_a_wait_by_the_same_choice_with_other_figures_is_told_once() -> None:
    stories = Stories()
    stories.add(waits("for 'a' to go", choice=chosen("a")))
    stories.add(waits("for 'a' to go", choice=replace(chosen("a"), available=50.0)))
    # As it is lined up: without the figures.
    stories.add(waits("for 'a' to go"))
    assert stories.of("m") == (waits("for 'a' to go", choice=chosen("a")),)


@pytest.mark.parametrize(
    "news",
    [
        waits("for its turn"),
        waits("for memory", choice=chosen("a")),
        replace(waits("for memory"), server_id=ServerId("m", 2)),
        replace(waits("for memory"), role=Role.SUPERSEDED),
        replace(waits("for memory"), before=Phase.QUEUED, after=Phase.PREPARING),
        replace(waits("for memory"), before=None, after=Phase.QUEUED),
    ],
    ids=["another reason", "a choice", "another server", "role", "phase", "new"],
)
def test_what_differs_is_told(news: Decision) -> None:
    stories = Stories()
    stories.add(waits("for memory"))
    stories.add(news)
    assert stories.of("m") == (waits("for memory"), news)


def test_a_wait_for_others_than_before_is_told_though_in_the_same_words() -> None:
    stories = Stories()
    stories.add(waits("for room", choice=chosen("a")))
    stories.add(waits("for room", choice=chosen("b")))
    assert [one.choice for one in stories.of("m")] == [chosen("a"), chosen("b")]


def test_a_wait_that_comes_again_after_a_start_is_told_again() -> None:
    stories = Stories()
    started = replace(waits("for memory"), after=Phase.PREPARING)
    for one in (waits("for memory"), started, waits("for memory")):
        stories.add(one)
    assert len(stories.of("m")) == 3


# --- the figures of a choice ----------------------------------------------------------------


def resident(
    model: str, freed: int, preemption_class: PreemptionClass, uses: float = 2.0
) -> Resident:
    candidate = Candidate(ServerId(model, 1), freed, 5.0, 0.0, uses)
    return Resident(candidate, preemption_class, (), 0.0)


def capacity(*residents: Resident) -> Capacity:
    reserved = sum(one.candidate.freed for one in residents)
    return Capacity(10.0, reserved, 0, 50.0, False, lambda: residents, {}, {})


def test_a_choice_tells_who_goes_and_who_was_passed_over_with_what_each_is_worth() -> None:
    there = capacity(
        resident("a", 3, PreemptionClass.UNUSED, uses=1.0),
        resident("b", 4, PreemptionClass.PROTECTED),
        resident("c", 2, PreemptionClass.BUSY, uses=0.5),
    )
    choice = story.preemption(there, 4, [ServerId("a", 1)])
    assert choice == Choice(
        needed=4,
        budget=10.0,
        reserved=9,
        available=50.0,
        chosen=(Weighed(ServerId("a", 1), PreemptionClass.UNUSED, 3, 5.0),),
        passed_over=(
            Weighed(ServerId("b", 1), PreemptionClass.PROTECTED, 4, 10.0),
            Weighed(ServerId("c", 1), PreemptionClass.BUSY, 2, 2.5),
        ),
    )
    assert choice.chosen_ids == {ServerId("a", 1)}


def test_an_admission_has_the_figures_of_the_capacity_and_weighs_nobody() -> None:
    there = replace(capacity(), residents=lambda: pytest.fail("nobody is to be weighed"))
    assert story.admission(there, 4) == Choice(4, 10.0, 0, 50.0, (), ())


# --- the story of a model, through the machine ----------------------------------------------

LIMITS = Limits(memory_budget=6, queue_timeout=1e6, probe_interval=FOREVER)
"""There is room for `a` (3) or for `b` (4)."""


def pool() -> Ledger:
    defaults = Settings("", keep_alive=1e6, grace_period=0.0)
    return Ledger(lambda: Machine(Catalogue(defaults), LIMITS), LIMITS)


def told(ledger: Ledger, model: str) -> list[tuple[int, str, Phase | None, Phase | None]]:
    """Return of a model's story: the generation, the event, and the phases of each decision."""
    story = ledger.machine.story(model)
    return [(one.server_id.generation, one.event, one.before, one.after) for one in story]


def test_a_cold_start_leaves_a_story_of_each_phase_and_its_event() -> None:
    ledger = pool()
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    changes = [one for one in told(ledger, "a") if one[2] is not one[3]]
    assert changes == [
        (1, "EnsureRequested", None, Phase.QUEUED),
        (1, "MemorySampled", Phase.QUEUED, Phase.PREPARING),
        (1, "Prepared", Phase.PREPARING, Phase.SPAWNING),
        (1, "Spawned", Phase.SPAWNING, Phase.STARTING),
        (1, "BecameReady", Phase.STARTING, Phase.READY),
    ]
    begins = next(one for one in ledger.machine.story("a") if one.after is Phase.PREPARING)
    assert begins.choice is not None
    assert (begins.choice.needed, begins.choice.budget, begins.choice.reserved) == (3, 6, 0)
    assert begins.choice.available == 100


def test_a_preemption_tells_both_models_for_whom_and_by_which_figures() -> None:
    ledger = pool()
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    ledger.now = 50.0
    ledger.handle(EnsureRequested(2, "b"))
    drive(ledger)
    waited = next(one for one in ledger.machine.story("b") if one.choice is not None)
    assert (waited.before, waited.after, waited.why) == (
        Phase.QUEUED,
        Phase.QUEUED,
        "waits for 'a' to go",
    )
    assert waited.choice is not None
    assert waited.choice.chosen_ids == {ServerId("a", 1)}
    assert (waited.choice.needed, waited.choice.reserved) == (4, 3)
    of_a = ledger.machine.story("a")
    whys = [one.why for one in of_a]
    at = whys.index("is preempted for 'b'")
    assert (of_a[at].before, of_a[at].after) == (Phase.READY, Phase.READY)
    ends = [(one.before, one.after) for one in of_a[at + 1 :]]
    assert ends == [
        (Phase.READY, Phase.STOPPING),
        (Phase.STOPPING, Phase.CLEANING_UP),
        (Phase.CLEANING_UP, None),
    ]
    assert of_a[at + 1].why == "it was unused and made room for another model"
    assert told(ledger, "b")[-1] == (1, "BecameReady", Phase.STARTING, Phase.READY)


def test_who_waits_for_long_behind_a_held_server_tells_it_once() -> None:
    ledger = pool()
    ledger.handle(HoldRequested(1, "a"))
    drive(ledger)
    ledger.handle(EnsureRequested(2, "b"))
    drive(ledger)
    before = told(ledger, "b")
    for _ in range(5):
        ledger.reach_time(1.0)
        look(ledger)
    assert told(ledger, "b") == before
    assert before[-1][2:] == (Phase.QUEUED, Phase.QUEUED)
    assert ledger.machine.story("b")[-1].why.startswith("waits for 'a' to go, which")


def test_a_crash_with_a_holder_tells_the_end_and_the_next_generation() -> None:
    ledger = pool()
    ledger.handle(HoldRequested(1, "a"))
    drive(ledger)
    begun = len(told(ledger, "a"))
    died = next(c for c in ledger.outstanding if isinstance(c, commands.AwaitExit))
    ledger.done(died)
    ledger.handle(Exited(died.server_id, report()))
    drive(ledger)
    changes = [one for one in told(ledger, "a")[begun:] if one[2] is not one[3]]
    assert changes[:3] == [
        (1, "Exited", Phase.READY, Phase.CLEANING_UP),
        (1, "CleanedUp", Phase.CLEANING_UP, None),
        (2, "CleanedUp", None, Phase.QUEUED),
    ]
    assert changes[-1] == (2, "BecameReady", Phase.STARTING, Phase.READY)
    assert ledger.machine.story("a")[begun].why == "it died"


def test_a_failed_start_tells_why_though_its_server_is_gone() -> None:
    ledger = pool()
    ledger.handle(EnsureRequested(1, "a"))
    estimate = next(c for c in ledger.outstanding if isinstance(c, commands.EstimateMemory))
    ledger.done(estimate)
    ledger.handle(EstimateFailed(estimate.server_id, ModelRejected("no such model", model="a")))
    assert ledger.servers == []
    assert told(ledger, "a")[-1] == (1, "EstimateFailed", Phase.QUEUED, None)
    assert ledger.machine.story("a")[-1].why == "no such model"


def test_handing_out_a_ready_server_writes_no_story() -> None:
    ledger = pool()
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    before = told(ledger, "a")
    ledger.now += 1.0
    ledger.handle(EnsureRequested(2, "a"))
    assert told(ledger, "a") == before
