"""Members that a registry does not list any more though they are there."""

import pytest

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core.listing import UNLISTED_LIMIT_S
from pool_service.fleet.core.values import Presence
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, Front, server

MOMENT_S = 0.1


def members(front: Front) -> dict[str, str]:
    return {one.host: one.address for one in front.machine.members}


def left(commands: list[cmd.Command]) -> list[str]:
    """Return the members that are followed no more."""
    return [one.host for one in commands if isinstance(one, cmd.Disconnect)]


def noted(commands: list[cmd.Command]) -> list[str]:
    """Return the members of which is logged that they stay."""
    return [one.host for one in commands if isinstance(one, cmd.NoteUnlisted)]


@pytest.mark.parametrize("lists", ["", "a", "ab"])
def test_members_that_answer_stay_though_a_registry_has_lost_most(lists: str) -> None:
    front = Front("a", "b", "c", "d", "e")
    front.changed(server("e"))
    assert front.registered(*lists) == []
    lost = [host for host in "abcde" if host not in lists]
    assert noted(front.pass_time(LOST_AFTER_S)) == lost
    assert [one.host for one in front.machine.members if one.is_kept] == lost
    assert front.pass_time(UNLISTED_LIMIT_S - LOST_AFTER_S - MOMENT_S) == []
    # What is there is given out, and what is not is placed.
    assert front.host_of(front.ask()) == "e"
    assert front.place("d", "other")


def test_the_only_member_stays_though_a_registry_has_lost_it() -> None:
    front = Front("a")
    front.registered()
    front.pass_time(UNLISTED_LIMIT_S - MOMENT_S)
    assert list(members(front)) == ["a"]


def test_members_that_are_listed_again_are_as_before() -> None:
    front = Front("a", "b", "c")
    front.registered()
    front.pass_time(LOST_AFTER_S)
    assert front.registered("a", "b", "c") == []
    assert not any(one.is_kept for one in front.machine.members)
    assert front.machine.next_deadline() == float("inf")
    # Not since the first time, but since the last one.
    front.registered()
    assert front.pass_time(UNLISTED_LIMIT_S - MOMENT_S) == [
        cmd.NoteUnlisted(host, f"{host}:1") for host in "abc"
    ]


@pytest.mark.parametrize("lists", ["ab", "abc"])
def test_a_registry_that_lists_half_or_more_is_obeyed_soon(lists: str) -> None:
    front = Front("a", "b", "c", "d")
    front.registered(*lists)
    assert front.pass_time(LOST_AFTER_S - MOMENT_S) == []
    commands = front.pass_time(MOMENT_S)
    assert left(commands) == [host for host in "abcd" if host not in lists]
    assert noted(commands) == []
    assert front.machine.next_deadline() == float("inf")


def test_a_member_that_a_registry_loses_for_a_moment_is_not_left() -> None:
    front = Front("a", "b", "c")
    front.registered("a", "b")
    front.pass_time(LOST_AFTER_S - MOMENT_S)
    assert front.registered("a", "b", "c") == []
    assert front.pass_time(UNLISTED_LIMIT_S) == []


def test_members_stay_that_a_registry_loses_one_after_the_other() -> None:
    front = Front("a", "b", "c")
    for lists in ("ab", "a", ""):
        front.registered(*lists)
        front.pass_time(MOMENT_S)
    front.pass_time(UNLISTED_LIMIT_S / 2)
    assert list(members(front)) == ["a", "b", "c"]


def test_a_member_that_falls_silent_is_left_at_once_if_the_others_are_listed() -> None:
    """As one that ends: it takes itself off first."""
    front = Front("a", "b", "c")
    front.registered("a", "b")
    assert left(front.lose_sight("c")) == ["c"]
    front.lose_sight("b")
    assert left(front.registered("a")) == ["b"]


def test_a_member_that_stays_is_lost_as_ever_once_it_is_silent() -> None:
    front = Front("a", "b", "c", "d")
    front.changed(server("d"))
    front.registered("a")
    front.pass_time(LOST_AFTER_S)
    front.lose_sight("d")
    waiting = front.ask()
    assert front.waits(waiting)
    commands = front.pass_time(LOST_AFTER_S)
    assert cmd.NotePresence("d", Presence.LOST, "cut") in commands
    assert left(commands) == ["d"]
    front.offer(a=FITS)
    assert front.host_of(waiting) == "a"
    assert list(members(front)) == ["a", "b", "c"]


def test_a_member_that_stays_goes_on_if_it_is_silent_for_a_moment() -> None:
    front = Front("a", "b", "c")
    front.changed(server("c"))
    front.registered()
    front.pass_time(LOST_AFTER_S)
    front.lose_sight("c")
    front.pass_time(LOST_AFTER_S - MOMENT_S)
    front.told("c", server("c"))
    front.pass_time(UNLISTED_LIMIT_S / 2)
    assert front.host_of(front.ask()) == "c"


def test_a_registry_that_has_not_listed_members_for_long_is_obeyed() -> None:
    front = Front("a", "b", "c")
    front.registered("a")
    front.pass_time(UNLISTED_LIMIT_S - MOMENT_S)
    assert left(front.pass_time(MOMENT_S)) == ["b", "c"]
    assert front.machine.next_deadline() == float("inf")


def test_members_stay_also_when_fewer_than_half_are_left_that_are_not_listed() -> None:
    """Another one is lost, or is listed again: that says nothing of them."""
    front = Front("a", "b", "c", "d", "e")
    front.registered("a", "b")
    front.pass_time(LOST_AFTER_S)
    front.lose_sight("c")
    front.pass_time(LOST_AFTER_S)
    front.registered("a", "b", "d")
    front.pass_time(UNLISTED_LIMIT_S / 2)
    assert list(members(front)) == ["a", "b", "d", "e"]


def test_the_members_of_before_are_left_once_as_many_others_are_seen() -> None:
    front = Front("a", "b")
    commands = front.registered("x", "y")
    assert [one.host for one in commands if isinstance(one, cmd.Connect)] == ["x", "y"]
    front.pass_time(LOST_AFTER_S - MOMENT_S)
    for host in "xy":
        front.beat(host, front.machine.epoch, NAME, 0.0)
        front.told(host)
    assert left(front.pass_time(MOMENT_S)) == ["a", "b"]


def test_members_that_were_never_seen_or_are_lost_do_not_stay() -> None:
    front = Front("a", "b")
    front.registered("a", "b", "new")
    front.lose_sight("b")
    front.pass_time(LOST_AFTER_S)
    assert sorted(left(front.registered())) == ["b", "new"]


def test_members_stay_where_they_answer_though_a_registry_lists_most_elsewhere() -> None:
    front = Front("a", "b", "c")
    front.registered("a", b="wrong:1", c="wrong:2")
    front.pass_time(LOST_AFTER_S)
    assert members(front) == {"a": "a:1", "b": "b:1", "c": "c:1"}
    # One that has moved is silent where it was.
    commands = front.lose_sight("b")
    assert cmd.Connect("b", "wrong:1") in commands
    assert members(front) == {"a": "a:1", "b": "wrong:1", "c": "c:1"}


def test_a_member_that_moves_and_answers_where_it_was_is_followed_soon() -> None:
    front = Front("a", "b", "c")
    front.registered("a", "b", c="elsewhere:1")
    assert front.pass_time(LOST_AFTER_S)[-1] == cmd.Connect("c", "elsewhere:1")


def test_what_an_operator_has_written_counts_at_once() -> None:
    front = Front("a", "b", "c")
    assert left(front.listed()) == ["a", "b", "c"]
    front = Front("a", "b", "c")
    front.registered()
    assert left(front.listed("a")) == ["b", "c"]
