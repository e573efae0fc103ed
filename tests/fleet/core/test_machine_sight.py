"""Members that fall silent, are lost, and come back; and a front that is cut off."""

import pytest

from pool_service.core.errors import PoolUnreachable, Recovering
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Lead, Presence, ServerState
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, WARM, Front, server

HOUR_S = 3600.0


def presences(front: Front) -> dict[str, Presence]:
    return {member.host: member.presence for member in front.machine.members}


def test_members_are_followed_as_they_are_listed() -> None:
    front = Front()
    assert front.listed("a", "b") == [cmd.Connect("a", "a:1"), cmd.Connect("b", "b:1")]
    assert front.listed("b") == [
        cmd.NotePresence("a", Presence.LOST, "it has not answered yet"),
        cmd.Interrupt("a"),
        cmd.Disconnect("a"),
    ]
    assert front.listed("b") == []


def test_a_member_at_another_address_is_followed_there_and_its_servers_are_told_again() -> None:
    front = Front("a")
    front.changed(server("a"))
    commands = front.feed(ev.MembersListed({"a": "elsewhere:1"}))
    assert cmd.Publish(server("a"), removed=True) in commands
    followed = [one for one in commands if isinstance(one, cmd.Connect | cmd.Disconnect)]
    assert followed == [cmd.Disconnect("a"), cmd.Connect("a", "elsewhere:1")]
    assert presences(front) == {"a": Presence.EXPECTED}
    assert front.machine.at_once("m") is None


def test_a_new_front_places_nothing_until_each_member_has_told_or_is_lost() -> None:
    front = Front()
    front.lead(Lead(leads=True))
    front.listed("a", "b", "c")
    front.beat("a")
    front.told("a")
    front.beat("b")
    call = front.ask()
    assert not front.machine.is_settled
    assert front.machine.epoch == 0
    front.told("b", server("b"))
    assert front.waits(call)
    front.pass_time(LOST_AFTER_S)
    assert presences(front)["c"] is Presence.LOST
    # It knows by then where the model is, and starts it nowhere else.
    assert front.host_of(call) == "b"


def test_a_running_front_does_not_wait_for_a_new_member() -> None:
    front = Front("a")
    front.listed("a", "new")
    assert front.machine.is_settled
    front.ask()
    assert front.asked().hosts == ("a",)
    assert presences(front)["new"] is Presence.EXPECTED


def test_a_front_that_sees_no_member_waits_for_a_new_one() -> None:
    front = Front("a")
    front.listed("new")
    call = front.ask()
    assert front.waits(call)
    front.beat("new", front.machine.epoch, NAME, 0.0)
    front.told("new")
    assert front.asked().hosts == ("new",)


@pytest.mark.parametrize("is_out_between", [False, True])
def test_a_running_front_waits_for_a_member_that_it_has_seen_before(is_out_between: bool) -> None:
    """Its servers are there, wherever it is now."""
    front = Front("a", "b")
    front.changed(server("b"))
    if is_out_between:
        front.listed("a")
    front.feed(ev.MembersListed({"a": "a:1", "b": "elsewhere:1"}))
    call = front.ask()
    assert front.waits(call)
    front.told("b", server("b"))
    front.beat("b")
    assert front.host_of(call) == "b"


def test_a_front_that_began_without_members_waits_for_the_first_ones() -> None:
    front = Front()
    front.lead(Lead(leads=True))
    front.listed()
    front.listed("a", "b")
    front.beat("a")
    front.told("a")
    call = front.ask()
    assert front.waits(call)
    front.beat("b")
    front.told("b", server("b"))
    assert front.host_of(call) == "b"


def test_the_models_of_a_silent_member_wait_for_it() -> None:
    front = Front("a", "b", "c")
    front.changed(server("a"))
    assert front.lose_sight("a") == [cmd.NotePresence("a", Presence.SUSPECT, "cut")]
    call = front.ask()
    assert front.waits(call)
    assert front.machine.at_once("m") is None
    front.pass_time(LOST_AFTER_S - 0.1)
    assert front.waits(call)
    front.told("a", server("a"))
    assert front.host_of(call) == "a"


def test_the_models_of_a_lost_member_are_placed_again_and_its_calls_are_cancelled() -> None:
    front = Front("a", "b", "c")
    front.changed(server("a", generation=4))
    under_way = front.ask()
    front.lose_sight("a")
    parked = front.ask()
    commands = front.pass_time(LOST_AFTER_S)
    assert cmd.Interrupt("a") in commands
    assert cmd.Publish(server("a", generation=4), removed=True) in commands
    assert front.asked().hosts == ("b", "c")
    front.leave(under_way)
    again = front.ask()
    front.offer(b=FITS, c=WARM)
    assert front.host_of(parked) == front.host_of(again) == "c"
    # Above what any member has told, also one that is lost.
    assert front.seat(again).least_generation == 5


def test_a_model_stays_on_a_host_that_has_started_it_again_while_it_was_not_seen() -> None:
    front = Front("a", "b")
    front.changed(server("a"))
    front.changed(server("b"))
    front.lose_sight("a")
    front.told("a", server("a", generation=2, state=ServerState.STARTING))
    assert front.host_of(front.ask()) == "a"


def test_a_call_that_leaves_while_it_is_parked_is_not_answered() -> None:
    front = Front("a", "b", "c")
    front.changed(server("a"))
    front.lose_sight("a")
    call = front.ask()
    front.leave(call)
    front.told("a", server("a"))
    front.pass_time(HOUR_S)
    assert front.waits(call)


def test_a_member_has_its_own_patience() -> None:
    front = Front("a", "b", "c")
    front.feed(ev.PatienceChanged(3.0, {"a": 60.0}))
    front.feed(ev.MembersListed({host: f"{host}:1" for host in "abc"}))
    front.lose_sight("a")
    front.pass_time(59.0)
    assert presences(front)["a"] is Presence.SUSPECT
    front.pass_time(1.0)
    assert presences(front)["a"] is Presence.LOST


def test_a_member_that_was_never_seen_is_lost_after_its_patience_too() -> None:
    front = Front("a", "b")
    front.listed("a", "b", "c")
    front.feed(ev.SightLost("c", "connection refused"))
    assert front.pass_time(LOST_AFTER_S)[0] == cmd.NotePresence(
        "c", Presence.LOST, "connection refused"
    )
    assert front.machine.next_deadline() == float("inf")


def test_a_new_front_waits_for_a_member_with_more_patience_no_longer_than_for_others() -> None:
    front = Front()
    front.feed(ev.PatienceChanged(3.0, {"laptop": 600.0}))
    front.listed("a", "laptop")
    front.told("a")
    before = front.machine.is_settled
    front.pass_time(3.0)
    assert (before, front.machine.is_settled) == (False, True)
    assert presences(front) == {"a": Presence.PRESENT, "laptop": Presence.LOST}


def test_what_members_tell_that_are_not_seen_does_not_count() -> None:
    front = Front("a", "b")
    assert front.told("z", server("z")) == []
    front.lose_sight("a")
    assert front.changed(server("a")) == []
    assert list(front.machine.servers()) == []


@pytest.mark.parametrize(("silent", "places"), [("a", True), ("ab", False), ("abc", False)])
def test_a_front_that_loses_more_than_half_at_once_places_nothing(
    silent: str, places: bool
) -> None:
    front = Front("a", "b", "c", "d", "e") if places else Front("a", "b", "c")
    front.changed(server("c", "there"))
    waiting = front.ask()
    front.lose_sight(*silent)
    front.pass_time(LOST_AFTER_S)
    call = front.ask()
    if places:
        assert front.waits(call)
        return
    for one in (call, waiting):
        error = front.answers[one]
        assert isinstance(error, PoolUnreachable)
        assert error.retry_after > 0
        assert "cut off" in str(error)
    # What is there is still served.
    assert (front.machine.at_once("there") is not None) is ("c" not in silent)


def test_members_that_vanish_one_after_the_other_are_lost() -> None:
    front = Front("a", "b", "c")
    front.lose_sight("a")
    front.pass_time(LOST_AFTER_S + 1)
    front.lose_sight("b")
    front.pass_time(LOST_AFTER_S)
    front.ask()
    assert front.asked().hosts == ("c",)


def test_a_front_that_was_cut_off_places_again_once_it_sees_enough() -> None:
    front = Front("a", "b", "c")
    front.lose_sight("a", "b")
    front.pass_time(HOUR_S)
    assert isinstance(front.answers[front.ask()], PoolUnreachable)
    front.told("b")
    front.acknowledge("b")
    front.ask()
    assert front.asked().hosts == ("b", "c")


def test_members_that_are_taken_out_no_longer_count_as_vanished() -> None:
    front = Front("a", "b", "c")
    front.lose_sight("a", "b")
    front.pass_time(LOST_AFTER_S)
    front.listed("c")
    front.ask()
    assert front.asked().hosts == ("c",)


def test_watchers_are_told_what_changes_and_nothing_twice() -> None:
    front = Front("a", "b", "c")
    one, two = server("a"), server("a", "n")
    assert front.told("a", one, two, revision=3)[:2] == [
        cmd.Publish(one, removed=False),
        cmd.Publish(two, removed=False),
    ]
    front.lose_sight("a")
    later = server("a", state=ServerState.FAILED, revision=4)
    commands = front.told("a", later, revision=4)
    assert [command for command in commands if isinstance(command, cmd.Publish)] == [
        cmd.Publish(two, removed=True),
        cmd.Publish(later, removed=False),
    ]
    assert list(front.machine.servers()) == [later]
    assert front.changed(two, removed=True) == []


def test_a_front_that_has_not_heard_yet_who_the_members_are_knows_nothing() -> None:
    """Or it would choose an epoch, and take the front before it for one that began later."""
    front = Front()
    assert not front.machine.is_settled
    front.lead(Lead(leads=True))
    call = front.ask()
    assert front.waits(call)
    front.now += 1.0
    front.listed("a")
    front.beat("a", 5, "earlier", 0.1)
    front.told("a")
    assert front.machine.epoch == 6
    front.acknowledge("a")
    front.offer(a=FITS)
    assert front.host_of(call) == "a"


def test_a_front_whose_discovery_is_away_sends_its_callers_on() -> None:
    """To another front, or to try again: it may be away for long."""
    front = Front()
    call = front.ask()
    front.pass_time(LOST_AFTER_S - 0.1)
    assert front.waits(call)
    front.pass_time(0.1)
    assert isinstance(front.answers[call], Recovering)
    assert isinstance(front.answers[front.ask()], Recovering)
    front.pass_time(HOUR_S)
    front.lead(Lead(leads=True))
    front.listed("a")
    call = front.ask()
    front.beat("a")
    front.told("a", server("a"))
    assert front.host_of(call) == "a"


def test_a_fleet_of_no_members_can_start_nothing_and_says_so() -> None:
    front = Front()
    front.lead(Lead(leads=True))
    front.listed()
    assert front.machine.is_settled
    assert front.machine.next_deadline() == float("inf")
    assert "it has none" in str(front.answers[front.ask()])
