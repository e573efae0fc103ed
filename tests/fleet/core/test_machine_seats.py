"""Where calls go: placing, waiting, refusals."""

from collections import Counter
from dataclasses import replace

import pytest

from pool_service.core.errors import PoolUnreachable
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.seats import ASK_AGAIN_S
from pool_service.fleet.core.values import (
    CatalogueNames,
    Lead,
    Offer,
    Seat,
    ServerState,
    Verdict,
)
from tests.fleet.core.fronts import FITS, WAITS, WARM, Front, never, server

STARTING = ServerState.STARTING


def test_a_model_is_placed_once_however_many_call() -> None:
    front = Front("a", "b")
    calls = [front.ask() for _ in range(5)]
    assert sum(isinstance(one, cmd.AskOffers) for one in front.commands) == 1
    assert front.asked().hosts == ("a", "b")
    front.offer(a=WAITS, b=FITS)
    calls.append(front.ask())
    assert {front.seat(one) for one in calls} == {Seat("b", "m", 1, front.machine.epoch)}


def test_calls_of_a_ready_server_need_no_placing() -> None:
    front = Front("a", "b")
    front.changed(server("b", generation=7))
    assert front.machine.at_once("m") == Seat("b", "m", 8, front.machine.epoch)
    assert front.host_of(front.ask()) == "b"
    front.changed(server("b", generation=7), removed=True)
    assert front.machine.at_once("m") is None


def test_a_model_that_is_seen_while_it_is_being_placed_is_placed_nowhere_else() -> None:
    front = Front("a", "b", "c")
    front.changed(server("a"))
    front.lose_sight("a")
    front.pass_time(5.0)
    call = front.ask()
    assert front.asked().hosts == ("b", "c")
    front.told("a", server("a"))
    assert front.host_of(call) == "a"
    assert front.offer(b=FITS, c=FITS) == []


def test_a_server_of_a_host_that_has_refused_it_does_not_end_its_placing() -> None:
    front = Front("a", "b")
    call = front.place("a")
    front.refuse(call, "a", "MODEL_TOO_LARGE")
    front.changed(server("a"))
    assert front.waits(call)
    front.offer(b=FITS)
    assert front.host_of(call) == "b"


def test_a_server_that_still_starts_is_no_seat_at_once() -> None:
    front = Front("a")
    front.changed(server("a", state=STARTING))
    assert front.machine.at_once("m") is None
    assert front.host_of(front.ask()) == "a"


def test_a_server_that_somebody_started_at_the_member_is_where_calls_go() -> None:
    front = Front("a", "b")
    front.changed(server("b", state=STARTING))
    assert front.host_of(front.ask()) == "b"


def test_a_herd_of_models_is_spread_evenly() -> None:
    front = Front("a", "b", "c")
    # Placed in bursts: offers come before any server is seen.
    rounds = []
    for number in range(30):
        front.ask(f"m{number}")
        rounds.append(front.asked())
    offer = Offer(Verdict.FITS, "", on_disk=True, usual_load=5.0, needed=100, free=1000)
    for asked in rounds:
        front.feed(ev.OffersCame(asked.round_id, dict.fromkeys(asked.hosts, offer)))
    hosts = Counter(front.host_of(one) for one in front.answers)
    assert hosts == {"a": 10, "b": 10, "c": 10}


def test_what_an_offer_counts_already_is_not_counted_twice() -> None:
    front = Front("a", "b")
    front.place("a", "other")
    front.changed(server("a", "other", state=STARTING, revision=5))
    # The offer of `a` has less room as it knows of the other one: 900 - 100 = 800 > 750.
    front.ask()
    front.offer(a=replace(FITS, free=900, revision=5), b=replace(FITS, free=850))
    assert front.machine.hosts_of("other") == ["a"]
    assert front.host_of(2) == "a"
    # That of an earlier revision does not know it.
    front.ask("third")
    third = replace(FITS, model="third")
    front.offer(a=replace(third, free=900, revision=4), b=replace(third, free=850, revision=4))
    assert front.host_of(3) == "b"


def test_a_server_that_is_queued_is_not_counted_by_an_offer_and_so_by_the_front() -> None:
    front = Front("a", "b")
    front.place("a", "other")
    front.changed(server("a", "other", state=ServerState.QUEUED, revision=5))
    front.ask("third")
    third = replace(FITS, model="third", free=1000, revision=5)
    # Of the same state of `a`, in which the other one has no memory yet: 1000 - 100 < 950.
    front.offer(a=third, b=replace(third, free=950))
    assert front.host_of(2) == "b"
    front.changed(server("a", "other", state=STARTING, revision=6))
    front.ask("fourth")
    fourth = replace(FITS, model="fourth", revision=6)
    front.offer(a=replace(fourth, free=900), b=replace(fourth, free=850))
    assert front.host_of(3) == "a"


def test_after_a_member_has_begun_anew_its_servers_are_not_counted_twice() -> None:
    front = Front("a", "b")
    front.changed(server("a", "other", revision=500))
    front.lose_sight("a")
    front.told("a", server("a", "other", revision=3), revision=3)
    call = front.ask()
    front.offer(a=replace(FITS, free=900, revision=3), b=replace(FITS, free=850))
    assert front.host_of(call) == "a"


def test_a_member_that_is_not_reachable_is_never_placed_on() -> None:
    front = Front("a", "b")
    front.beat("a", front.machine.epoch, "front", 0.0, reachable=False)
    front.changed(server("a"))
    assert front.machine.at_once("m") is None
    call = front.ask()
    assert front.asked().hosts == ("b",)
    front.offer(b=FITS)
    assert front.host_of(call) == "b"


def test_a_member_that_is_reachable_no_more_is_not_placed_on_by_the_offer_that_it_made() -> None:
    front = Front("a", "b")
    call = front.ask()
    front.beat("a", reachable=False)
    front.offer(a=WARM, b=FITS)
    assert front.host_of(call) == "b"


def test_a_model_leaves_a_member_that_is_reachable_no_more() -> None:
    front = Front("a", "b")
    front.place("a")
    front.changed(server("a"))
    front.beat("a", front.machine.epoch, "front", 0.0, reachable=False)
    assert front.machine.at_once("m") is None
    call = front.ask()
    front.offer(b=FITS)
    assert front.host_of(call) == "b"


def test_without_any_reachable_member_the_caller_is_told_of_each() -> None:
    front = Front("a", "b")
    front.beat("a", reachable=False)
    front.lose_sight("b")
    error = front.answers[front.ask()]
    assert isinstance(error, PoolUnreachable)
    assert error.retry_after > 0
    assert "a: no other host reaches its servers" in str(error)
    assert "b: suspect, cut" in str(error)


def test_members_that_do_not_answer_are_asked_again_and_then_the_caller_is_told() -> None:
    front = Front("a")
    call = front.ask()
    for _ in range(3):
        front.offer()
        assert front.waits(call)
        front.pass_time(ASK_AGAIN_S)
    front.offer()
    assert isinstance(front.answers[call], PoolUnreachable)


def test_a_call_that_gives_up_leaves_no_placing_behind() -> None:
    front = Front("a")
    call = front.ask()
    asked = front.asked()
    front.leave(call)
    assert front.feed(ev.OffersCame(asked.round_id, {"a": FITS})) == []
    assert front.machine.hosts_of("m") == []
    # Its place is free for the next one, who is asked for anew.
    front.ask()
    assert front.asked().round_id != asked.round_id


def test_offers_of_members_that_are_gone_meanwhile_do_not_count() -> None:
    front = Front("a", "b", "c")
    call = front.ask()
    front.lose_sight("a")
    front.offer(a=WARM, b=FITS)
    assert front.host_of(call) == "b"


# --- refusals -------------------------------------------------------------------------------


def test_a_refusal_moves_on_and_ends_with_the_reason_that_comes_first() -> None:
    front = Front("a", "b", "c")
    call = front.place("a")
    front.refuse(call, "a", "POOL_FULL")
    assert front.asked().hosts == ("b", "c")
    front.offer(b=FITS, c=WAITS)
    assert front.host_of(call) == "b"
    front.refuse(call, "b", "MODEL_NOT_ON_DISK")
    assert front.asked().hosts == ("c",)
    front.offer(c=never("MODEL_UNKNOWN"))
    assert front.answers[call] == cmd.AsRefused("a")


@pytest.mark.parametrize("state", [ServerState.STOPPING, ServerState.READY])
def test_a_model_leaves_a_host_that_is_ending_with_its_server(state: ServerState) -> None:
    """And not one that leaves its servers to the next service. Another call keeps no place."""
    front = Front("a", "b")
    call, another = front.place("a"), front.ask()
    front.changed(server("a", state=state))
    front.refuse(call, "a", "SHUTTING_DOWN")
    if state is ServerState.STOPPING:
        front.offer(a=never("SHUTTING_DOWN"), b=FITS)
        front.refuse(another, "a", "SHUTTING_DOWN")
    there = "b" if state is ServerState.STOPPING else "a"
    assert front.host_of(call) == front.host_of(another) == there


def test_a_host_is_not_asked_again_that_has_refused_a_call_which_had_to_wait_since() -> None:
    front = Front("a", "b")
    call = front.place("a")
    front.feed(ev.MembersListed({"a": "a:1", "b": "elsewhere:1"}))
    front.refuse(call, "a", "POOL_FULL")
    assert front.waits(call)
    front.beat("b", front.machine.epoch, "front", 0.0)
    front.told("b")
    assert front.asked().hosts == ("b",)
    front.offer(b=FITS)
    assert front.host_of(call) == "b"


def test_if_no_member_would_start_it_one_refuses_it_itself() -> None:
    front = Front("a", "b")
    call = front.ask()
    front.offer(a=never("MODEL_UNKNOWN"), b=never("MODEL_TOO_LARGE"))
    assert front.seat(call) == Seat("b", "m", 1, front.machine.epoch, may_move=False)


def test_members_are_asked_anew_for_a_call_that_allows_more_than_the_one_they_were_asked_for() -> (
    None
):
    """The host that refuses the first one may have no room for it, where another has."""
    front = Front("a", "b")
    call, with_download = front.ask(), front.ask(download=True)
    front.offer(a=never("MODEL_NOT_ON_DISK"), b=never("MODEL_NOT_ON_DISK"))
    assert not front.seat(call).may_move
    assert front.asked().download
    front.offer(a=replace(WAITS, on_disk=False), b=replace(FITS, on_disk=False))
    assert front.host_of(with_download) == "b"
    assert front.seat(with_download).may_move


def test_members_are_asked_anew_though_the_call_has_left_that_they_were_asked_for() -> None:
    front = Front("a", "b")
    call, with_download = front.ask(), front.ask(download=True)
    front.leave(call)
    front.offer(a=never("MODEL_NOT_ON_DISK"), b=never("MODEL_NOT_ON_DISK"))
    front.offer(b=replace(FITS, on_disk=False))
    assert front.host_of(with_download) == "b"


def test_a_call_gets_only_a_refusal_that_it_has_had() -> None:
    """Of others' refusals it has no error to give: the host refuses it itself."""
    front = Front("a", "b")
    first = front.place("a")
    front.refuse(first, "a", "POOL_FULL")
    second = front.ask()
    front.offer(b=never("MODEL_TOO_LARGE"))
    assert front.answers[first] == cmd.AsRefused("a")
    assert front.seat(second).may_move is False


def test_a_call_that_joined_later_gets_the_refusal_that_it_has_had() -> None:
    front = Front("a", "b")
    first = front.place("a")
    front.refuse(first, "a", "POOL_FULL")
    second = front.ask()
    front.offer(b=FITS)
    front.refuse(first, "b", "QUEUE_FULL")
    assert front.answers[first] == cmd.AsRefused("a")
    front.refuse(second, "b", "QUEUE_FULL")
    assert front.asked().hosts == ("a",)
    front.offer(a=never("POOL_FULL"))
    assert front.answers[second] == cmd.AsRefused("b")


@pytest.mark.parametrize("state", [ServerState.QUEUED, STARTING, ServerState.READY])
def test_a_caller_who_may_not_know_a_model_does_not_take_it_off_its_host(
    state: ServerState,
) -> None:
    front = Front("a", "b")
    front.changed(server("a", state=state))
    stranger = front.ask()
    front.refuse(stranger, "a", "MODEL_UNKNOWN")
    assert front.answers[stranger] == cmd.AsRefused("a")
    assert front.host_of(front.ask()) == "a"


def test_a_caller_who_may_not_know_a_model_does_not_take_it_from_who_waits_for_it() -> None:
    """Not either before its server is seen."""
    front = Front("a", "b")
    front.place("a")
    stranger = front.ask()
    front.refuse(stranger, "a", "MODEL_UNKNOWN")
    assert front.answers[stranger] == cmd.AsRefused("a")
    assert front.host_of(front.ask()) == "a"


def test_a_caller_who_may_not_know_a_model_does_not_take_its_host_from_who_asks_meanwhile() -> None:
    front = Front("a", "b")
    stranger = front.place("a")
    front.refuse(stranger, "a", "MODEL_UNKNOWN")
    call = front.ask()
    front.offer(b=never("MODEL_NOT_ON_DISK"))
    assert front.answers[stranger] == cmd.AsRefused("a")
    front.offer(a=FITS, b=never("MODEL_NOT_ON_DISK"))
    assert front.host_of(call) == "a"
    assert front.seat(call).may_move


def test_a_refusal_of_the_host_moves_on_though_the_front_still_sees_the_server() -> None:
    front = Front("a", "b")
    front.changed(server("a", state=ServerState.QUEUED))
    call = front.ask()
    front.refuse(call, "a", "POOL_FULL")
    assert front.asked().hosts == ("b",)


def test_callers_whom_a_host_refuses_that_does_not_list_their_model_move_to_one_that_does() -> None:
    front = Front("a", "b")
    front.feed(ev.CatalogueTold("b", CatalogueNames({}, ("m",))))
    first, second = front.place("a"), front.ask()
    front.refuse(first, "a", "MODEL_UNKNOWN")
    front.offer(b=FITS)
    front.refuse(second, "a", "MODEL_UNKNOWN")
    assert front.host_of(first) == front.host_of(second) == "b"


def test_what_was_refused_elsewhere_is_forgotten_once_the_server_is_ready() -> None:
    front = Front("a", "b")
    call = front.place("a")
    front.refuse(call, "a", "POOL_FULL")
    front.offer(b=FITS)
    front.changed(server("b"))
    front.leave(call)
    front.changed(server("b", state=ServerState.FAILED))
    front.ask()
    assert front.asked().hosts == ("a", "b")


def test_a_call_that_is_refused_where_its_model_is_no_more_goes_where_it_is() -> None:
    front = Front("a", "b", "c")
    slow, quick = front.place("a"), front.ask()
    front.refuse(quick, "a", "POOL_FULL")
    front.offer(b=FITS)
    front.refuse(slow, "a", "POOL_FULL")
    assert front.host_of(slow) == front.host_of(quick) == "b"


def test_a_refusal_waits_for_members_that_have_not_heard_who_leads() -> None:
    front = Front("a", "b")
    call = front.place("a")
    front.lose_sight("b")
    front.pass_time(5.0)
    front.told("b")
    front.refuse(call, "a", "POOL_FULL")
    assert front.waits(call)
    front.acknowledge("b")
    front.pass_time(ASK_AGAIN_S)
    assert front.asked().hosts == ("b",)


def test_a_follower_knows_where_servers_are_and_places_nothing() -> None:
    front = Front("a", "b", lead=Lead(leads=False, epoch=4, address="leader:1"))
    front.changed(server("b"))
    assert front.seat(front.ask()) == Seat("b", "m", 2, 4)
    assert front.answers[front.ask("other")] == cmd.OfLeader()
