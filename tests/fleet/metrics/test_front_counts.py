"""Claims about what a front counts: placings, moves, losses and calls without a host."""

from dataclasses import replace

import pytest

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Lead, Report, ServerState
from pool_service.fleet.metrics.front_counts import (
    MAX_HOSTS,
    FrontCounts,
    HostLabels,
)
from pool_service.metrics.values import OTHER
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, Front, never, server


class Counted(Front):
    """A front whose events and commands are counted."""

    def __init__(self, *hosts: str) -> None:
        self.counts = FrontCounts(HostLabels(), lambda: self.now)
        super().__init__(*hosts)

    def feed(self, event: ev.Event) -> list[cmd.Command]:
        commands = super().feed(event)
        self.counts.observe(event, commands)
        return commands

    def lose(self, *hosts: str) -> None:
        """Lose members: they are silent for too long."""
        self.lose_sight(*hosts)
        self.pass_time(LOST_AFTER_S + 1.0)


@pytest.fixture
def front() -> Counted:
    return Counted("a", "b")


def test_a_model_that_is_placed_counts_once_however_many_calls_wait_for_it(front: Counted) -> None:
    front.ask("m")
    front.ask("m")
    front.offer(a=FITS, b=never("POOL_FULL"))
    assert front.counts.placings.counts == {("a",): 1}
    assert front.counts.moves.counts == {}


def test_a_model_whose_host_was_lost_counts_as_moved_once_another_one_has_it(
    front: Counted,
) -> None:
    front.told("a", server("a"))
    front.lose("a")
    assert front.counts.losses.counts == {("a",): 1}
    front.ask("m")
    front.offer(b=FITS)
    assert front.counts.moves.counts == {("lost",): 1}
    front.told("b", server("b"))
    front.changed(server("b"), removed=True)
    front.ask("m")
    front.offer(b=FITS)
    assert front.counts.moves.counts == {("lost",): 1}, "it has not moved again"


def test_a_model_that_its_first_host_has_refused_counts_as_moved(front: Counted) -> None:
    call = front.ask("m")
    front.offer(a=FITS, b=replace(FITS, free=500))
    front.refuse(call, "a", "POOL_FULL")
    front.offer(b=FITS)
    assert front.counts.placings.counts == {("a",): 1, ("b",): 1}
    assert front.counts.moves.counts == {("refused",): 1}
    front.leave(call)


def test_calls_that_no_member_takes_count_by_why(front: Counted) -> None:
    front.ask("m")
    front.offer(a=never("POOL_FULL"), b=never("POOL_FULL"))
    front.lose("a", "b")
    front.ask("m")
    assert front.counts.unplaced.counts == {("REFUSED",): 1, (PoolUnreachable.REASON,): 1}
    assert front.counts.placings.counts == {}


def test_a_member_that_is_listed_no_more_is_not_lost_and_has_no_beat(front: Counted) -> None:
    assert front.counts.beats.keys() == {"a", "b"}
    front.listed("a")
    assert front.counts.losses.counts == {}
    assert front.counts.beats.keys() == {"a"}


def test_a_beat_is_of_the_time_of_its_answer(front: Counted) -> None:
    front.now = 250.0
    front.feed(ev.BeatAnswered("a", Report()))
    assert front.counts.beats["a"] == 250.0


def test_a_lease_that_is_prolonged_is_no_change_of_who_leads(front: Counted) -> None:
    before = front.counts.lead_changes
    front.feed(ev.LeadChanged(Lead(leads=True, until=500.0)))
    assert front.counts.lead_changes == before
    front.feed(ev.LeadChanged(Lead(leads=False, epoch=7, address="other:1")))
    assert front.counts.lead_changes == before + 1


def test_the_eviction_of_a_second_server_is_counted(front: Counted) -> None:
    front.told("a", server("a"))
    front.told("b", server("b", generation=2))
    assert front.counts.copy_evictions == 1


def test_a_server_that_had_ended_is_not_lost_with_its_host(front: Counted) -> None:
    front.told("a", server("a", state=ServerState.FAILED))
    front.lose("a")
    front.ask("m")
    front.offer(b=FITS)
    assert front.counts.moves.counts == {}


def test_hosts_beyond_the_bound_are_one_together() -> None:
    labels = HostLabels()
    names = [f"host{number}" for number in range(MAX_HOSTS + 5)]
    assert len({labels.of(name) for name in names}) == MAX_HOSTS + 1
    assert labels.of(names[-1]) == OTHER
    assert labels.of(names[0]) == names[0]
