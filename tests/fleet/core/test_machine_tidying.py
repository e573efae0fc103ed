"""Models with servers on several hosts: one stays, the others are evicted once unused."""

import pytest

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.tidying import EVICT_AGAIN_S
from pool_service.fleet.core.values import Lead, ServerState
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, Front, evicted, server

STARTING = ServerState.STARTING


def healed() -> Front:
    """Return a front to whom a member has come back, whose model has moved from `a` to `b`."""
    front = Front("a", "b", "c")
    front.changed(server("a", generation=1))
    front.lose_sight("a")
    call = front.ask()
    front.pass_time(LOST_AFTER_S)
    front.offer(b=FITS)
    front.changed(server("b", generation=2))
    front.leave(call)
    return front


def test_after_a_heal_the_copy_stays_that_was_handed_out_last() -> None:
    front = healed()
    commands = front.told("a", server("a", generation=1))
    assert [one for one in commands if isinstance(one, cmd.EvictCopy)] == [
        cmd.EvictCopy("a", "m", front.machine.epoch)
    ]
    assert front.host_of(front.ask()) == "b"
    assert front.machine.hosts_of("m") == ["b", "a"]


def test_a_copy_in_use_is_asked_for_again_each_second_until_it_is_gone() -> None:
    front = healed()
    front.told("a", server("a", generation=1))
    for _ in range(3):
        # While an answer is awaited, nothing is sent again.
        assert evicted(front.pass_time(5.0)) == []
        front.feed(ev.EvictionEnded("a", "m"))
        assert evicted(front.pass_time(EVICT_AGAIN_S - 0.1)) == []
        assert evicted(front.pass_time(0.1)) == ["a"]
    front.changed(server("a", generation=1), removed=True)
    front.feed(ev.EvictionEnded("a", "m"))
    assert evicted(front.pass_time(60.0)) == []
    assert front.machine.next_deadline() == float("inf")


def test_a_copy_is_evicted_once_it_is_ready() -> None:
    front = healed()
    assert evicted(front.told("a", server("a", generation=1, state=STARTING))) == []
    assert evicted(front.changed(server("a", generation=1))) == ["a"]


@pytest.mark.parametrize("state", [ServerState.STOPPING, ServerState.FAILED])
def test_what_callers_get_no_more_is_no_copy(state: ServerState) -> None:
    front = healed()
    assert evicted(front.told("a", server("a", generation=1, state=state))) == []


def test_where_the_model_was_placed_stays_also_while_it_still_starts() -> None:
    front = Front("a", "b")
    front.place("a")
    front.changed(server("a", state=STARTING))
    assert evicted(front.changed(server("b", generation=5))) == ["b"]


def test_no_copy_is_evicted_while_the_one_that_stays_is_not_seen() -> None:
    front = healed()
    front.lose_sight("b")
    assert evicted(front.told("a", server("a", generation=1))) == []
    assert evicted(front.pass_time(LOST_AFTER_S)) == []
    assert front.host_of(front.ask()) == "a"


def test_nothing_is_evicted_on_a_host_that_is_not_seen() -> None:
    front = healed()
    front.told("a", server("a", generation=1, state=STARTING))
    front.lose_sight("a")
    assert evicted(front.changed(server("b", generation=2, revision=2))) == []


def test_copies_on_a_host_that_callers_do_not_reach_are_left_to_it() -> None:
    front = healed()
    front.beat("a", front.machine.epoch, "front", 0.0, reachable=False)
    assert evicted(front.told("a", server("a", generation=1))) == []


def test_who_does_not_lead_evicts_nothing_and_who_begins_to_lead_does() -> None:
    front = Front("a", "b", lead=Lead(leads=False, epoch=2))
    front.changed(server("a"))
    front.changed(server("b", generation=2))
    assert evicted(front.commands) == []
    commands = front.lead(Lead(leads=True, epoch=3))
    assert [one for one in commands if isinstance(one, cmd.EvictCopy)] == [
        cmd.EvictCopy("b", "m", 3)
    ]


def test_a_front_that_begins_evicts_copies_once_all_members_have_told() -> None:
    front = Front()
    front.lead(Lead(leads=True))
    front.listed("a", "b", "c")
    for host in "abc":
        front.beat(host)
    front.told("a", server("a", generation=1))
    front.told("b", server("b", generation=2))
    assert evicted(front.commands) == []
    assert evicted(front.told("c")) != []


def test_a_front_that_was_cut_off_evicts_copies_once_it_sees_enough() -> None:
    front = Front("a", "b", "c", "d", "e")
    front.changed(server("a"))
    front.lose_sight("c", "d", "e")
    assert evicted(front.changed(server("b", generation=2))) == []
    assert evicted(front.told("c")) == ["b"]


def test_of_two_servers_on_one_host_none_is_a_copy() -> None:
    front = Front("a", "b")
    front.changed(server("a", generation=1))
    assert evicted(front.changed(server("a", generation=2))) == []


def test_a_copy_is_evicted_once_the_host_is_seen_again_whose_server_stays() -> None:
    front = healed()
    front.lose_sight("b")
    assert evicted(front.told("a", server("a", generation=1))) == []
    assert evicted(front.told("b", server("b", generation=2))) == ["a"]


def test_a_copy_is_evicted_once_the_host_is_reachable_whose_server_stays() -> None:
    front = healed()
    front.beat("a", front.machine.epoch, NAME, 0.0, reachable=False)
    assert evicted(front.told("a", server("a", generation=1))) == []
    assert evicted(front.beat("a", front.machine.epoch, NAME, 0.0)) == ["a"]
