"""Claims about an eviction without force, by what each look tells of use; by values."""

import pytest

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Answer, Command
from pool_service.core.errors import ServerInUse
from pool_service.core.events import EnsureRequested, EvictRequested
from pool_service.core.idle import AFTERGLOW_S
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Every
from pool_service.core.server import ServerId
from pool_service.core.types import Settings
from tests.core.acting import drive
from tests.core.invariants import Ledger


def ready(grace_period: float = 0.0) -> Ledger:
    """A pool in which `a` is READY."""
    limits = Limits()
    defaults = Settings("", keep_alive=30.0, grace_period=grace_period, drain_timeout=300.0)
    ledger = Ledger(lambda: Machine(Catalogue(defaults), limits), limits)
    ledger.handle(EnsureRequested(1, "a"))
    drive(ledger)
    return ledger


def pauses(issued: list[Command]) -> list[float]:
    """For how long each look that is commanded waits."""
    return [command.pause for command in issued if isinstance(command, commands.CheckActivity)]


def answers(issued: list[Command]) -> dict[int, object]:
    return {one.request_id: one.result for one in issued if isinstance(one, Answer)}


def found(ledger: Ledger, requests: int | None) -> list[Command]:
    """The look under way finds so many requests in flight."""
    ledger.done(next(c for c in ledger.outstanding if isinstance(c, commands.CheckActivity)))
    return ledger.handle(events.ActivityReported(ServerId("a", 1), Activity(requests)))


@pytest.mark.parametrize("requests", [1, None])
@pytest.mark.parametrize("target", ["a", Every.ALL, Every.IDLE])
def test_what_is_found_busy_is_looked_at_once_more_a_moment_later(
    target: str | Every, requests: int | None
) -> None:
    ledger = ready()
    assert pauses(ledger.handle(EvictRequested(2, target))) == [0.0]
    first = found(ledger, requests)
    assert (pauses(first), answers(first)) == ([AFTERGLOW_S], {})
    second = found(ledger, requests)
    assert pauses(second) == []
    told = answers(second)[2]
    assert isinstance(told, ServerInUse) if target == "a" else told == ()


def test_what_is_unused_at_the_second_look_is_marked_looked_at_and_stopped() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 1)
    assert pauses(found(ledger, 0)) == [0.0]
    assert [c for c in found(ledger, 0) if isinstance(c, commands.SendSignal)]


def test_what_is_unused_at_the_first_look_is_looked_at_without_a_pause() -> None:
    ledger = ready()
    assert pauses(ledger.handle(EvictRequested(2, "a"))) == [0.0]
    assert pauses(found(ledger, 0)) == [0.0]
    assert [c for c in found(ledger, 0) if isinstance(c, commands.SendSignal)]


def test_who_waits_behind_an_eviction_is_given_nothing_until_the_last_look() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 0)
    ledger.handle(EnsureRequested(3, "a"))
    assert answers(found(ledger, 1)) == {}
    last = found(ledger, 0)
    assert [c for c in last if isinstance(c, commands.SendSignal)], "it was marked"
    assert answers(last) == {}
    drive(ledger)
    assert not ledger.waiting


def test_each_eviction_gets_a_look_that_began_after_it() -> None:
    ledger = ready()
    ledger.handle(EvictRequested(2, "a"))
    found(ledger, 1)
    assert pauses(ledger.handle(EvictRequested(3, "a"))) == []
    settled = found(ledger, 1)
    assert list(answers(settled)) == [2]
    assert pauses(settled) == [AFTERGLOW_S]
    assert list(answers(found(ledger, 1))) == [3]


def test_what_has_to_reside_is_not_looked_at_twice_for_an_eviction_of_the_idle() -> None:
    ledger = ready(grace_period=10.0)
    ledger.now = 20.0
    assert pauses(ledger.handle(EvictRequested(2, Every.IDLE))) == [0.0]
    told = found(ledger, 1)
    assert (pauses(told), answers(told)) == ([], {2: ()})


def test_a_look_after_a_busy_one_that_no_eviction_waits_for_has_no_pause() -> None:
    ledger = ready()
    ledger.now = 30.0
    ledger.reach_time(0.0)
    assert pauses(found(ledger, 1)) == []
