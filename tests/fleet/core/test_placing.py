"""Which member starts a model, by values."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.fleet.core.placing import (
    LOAD_STEP,
    MOVING_REASONS,
    Pending,
    after,
    choose,
    first_reason,
)
from pool_service.fleet.core.values import Offer, Verdict

HERE = Offer(Verdict.FITS, "m", on_disk=True, usual_load=10.0, needed=100, free=500)
WAITS = replace(HERE, verdict=Verdict.WAITS)
DOWNLOADS = replace(HERE, on_disk=False)
HOSTS = st.sampled_from(["a", "b", "c", "d"])
OFFERS = st.builds(
    Offer,
    st.sampled_from(Verdict),
    st.just("m"),
    on_disk=st.sampled_from([True, False, None]),
    usual_load=st.sampled_from([None, 0.0, 1.0, 10.0]),
    needed=st.integers(0, 300),
    free=st.one_of(st.none(), st.integers(-100, 500)),
    evictable=st.integers(0, 300),
)
PENDING = st.builds(Pending, st.integers(0, 300), st.integers(0, 3))


def best(*offers: Offer, pending: Mapping[str, Pending] | None = None) -> str | None:
    """Return the choice of offers by hosts "0", "1" and so on."""
    return choose({str(place): offer for place, offer in enumerate(offers)}, pending or {})


IN_ORDER = {
    "a server that is there": replace(HERE, verdict=Verdict.WARM, on_disk=None, usual_load=None),
    "files and room": HERE,
    "files, by an eviction": replace(HERE, verdict=Verdict.EVICTS, usual_load=1.0, free=900),
    "perhaps files, and room": replace(HERE, on_disk=None, usual_load=1.0),
    "room, no files": DOWNLOADS,
    "no files, by an eviction": replace(DOWNLOADS, verdict=Verdict.EVICTS),
    "files, but the call waits": replace(WAITS, usual_load=1.0),
    "no files, and the call waits": replace(WAITS, on_disk=False, usual_load=1.0),
}


@pytest.mark.parametrize("place", range(len(IN_ORDER) - 1))
def test_the_better_offer_is_taken_in_whatever_order_they_come(place: int) -> None:
    better, worse = list(IN_ORDER.values())[place : place + 2]
    assert best(better, worse) == "0"
    assert best(worse, better) == "1"


def test_no_host_is_chosen_if_none_would_start_the_model() -> None:
    never = replace(HERE, verdict=Verdict.NEVER)
    assert best(never, never) is None
    assert best() is None
    assert best(never, replace(WAITS, on_disk=False)) == "1"


def test_the_shortest_load_is_taken_unless_the_difference_is_small() -> None:
    slow = replace(HERE, usual_load=10.0 * LOAD_STEP**2, free=900)
    assert best(slow, HERE) == "1"
    much_room = replace(HERE, usual_load=11.0, free=900)
    assert best(HERE, much_room) == "1"
    assert best(replace(HERE, usual_load=None, free=900), HERE) == "1"


def test_of_equal_loads_the_most_room_is_taken() -> None:
    assert best(HERE, replace(HERE, free=501)) == "1"
    assert best(replace(HERE, free=10_000), replace(HERE, free=None)) == "1"


def test_of_hosts_without_a_limit_the_one_with_fewest_servers_is_taken() -> None:
    endless = replace(HERE, free=None)
    assert best(endless, endless, pending={"0": Pending(100, 1)}) == "1"


def test_what_was_placed_meanwhile_takes_room() -> None:
    assert best(HERE, HERE, pending={"0": Pending(100, 1)}) == "1"
    # Beyond its room the first would evict.
    roomy = replace(HERE, free=550, evictable=500)
    assert best(roomy, HERE, pending={"0": Pending(500, 5)}) == "1"


@pytest.mark.parametrize(
    ("placed", "verdict"),
    [
        (0, Verdict.FITS),
        (400, Verdict.FITS),
        (401, Verdict.EVICTS),
        (600, Verdict.EVICTS),
        (601, Verdict.WAITS),
    ],
)
def test_an_offer_turns_with_what_was_placed(placed: int, verdict: Verdict) -> None:
    told = after(replace(HERE, evictable=200), Pending(placed, 1))
    assert (told.verdict, told.free) == (verdict, 500 - placed)


def test_a_host_without_a_limit_offers_what_it_offered() -> None:
    endless = replace(HERE, free=None)
    assert after(endless, Pending(10_000, 10)) == endless


@given(offer=OFFERS, placed=PENDING)
def test_what_was_placed_never_makes_an_offer_better(offer: Offer, placed: Pending) -> None:
    told = after(offer, placed)
    assert told.verdict >= offer.verdict
    assert (told.verdict is Verdict.NEVER) == (offer.verdict is Verdict.NEVER)
    assert (told.verdict is Verdict.WARM) == (offer.verdict is Verdict.WARM)
    more = after(offer, replace(placed, needed=placed.needed + 50))
    assert more.verdict >= told.verdict


@given(offers=st.dictionaries(HOSTS, OFFERS), pending=st.dictionaries(HOSTS, PENDING))
def test_the_choice_is_one_that_starts_it_and_warm_if_any_is(
    offers: dict[str, Offer], pending: dict[str, Pending]
) -> None:
    host = choose(offers, pending)
    willing = {one for one, offer in offers.items() if offer.verdict is not Verdict.NEVER}
    assert (host in willing) if willing else (host is None)
    if host is not None and Verdict.WARM in {offer.verdict for offer in offers.values()}:
        assert offers[host].verdict is Verdict.WARM


@given(
    offers=st.dictionaries(HOSTS, OFFERS, min_size=2),
    pending=st.dictionaries(HOSTS, PENDING),
    data=st.data(),
)
def test_the_choice_is_the_same_in_any_order_and_without_those_not_chosen(
    offers: dict[str, Offer], pending: dict[str, Pending], data: st.DataObject
) -> None:
    host = choose(offers, pending)
    shuffled = data.draw(st.permutations(list(offers.items())))
    assert choose(dict(shuffled), pending) == host
    other = data.draw(st.sampled_from(sorted(offers)))
    if other != host:
        rest = {one: offer for one, offer in offers.items() if one != other}
        assert choose(rest, pending) == host


@given(offer=OFFERS, more=st.integers(1, 100), placed=PENDING)
def test_more_room_never_loses_among_equals(offer: Offer, more: int, placed: Pending) -> None:
    roomier = replace(offer, free=None if offer.free is None else offer.free + more)
    offers = {"a": offer, "b": roomier} if offer.free is not None else {"b": roomier}
    host = choose(offers, dict.fromkeys(offers, placed))
    if offer.verdict is Verdict.NEVER:
        assert host is None
    else:
        assert host == "b"


def test_the_refusal_that_passes_by_itself_is_the_callers() -> None:
    assert first_reason({}) is None
    assert first_reason({"a": "MODEL_TOO_LARGE", "b": "POOL_FULL", "c": "X"}) == "b"
    assert first_reason({"b": "POOL_FULL", "a": "POOL_FULL"}) == "a"
    assert first_reason({"a": "UNHEARD_OF", "b": MOVING_REASONS[-1]}) == "b"
