"""Where calls go that name a model by an alias."""

from dataclasses import replace

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import CatalogueNames
from tests.fleet.core.fronts import FITS, WAITS, Front, never, server


def test_an_alias_means_the_model() -> None:
    front = Front("a")
    front.feed(ev.CatalogueTold("a", CatalogueNames({"fast": "m"}, ("m",))))
    front.changed(server("a"))
    assert front.machine.at_once("fast") == front.machine.at_once("m") is not None
    assert front.machine.hosts_of("fast") == ["a"]


def test_the_aliases_of_a_member_that_is_taken_out_mean_nothing() -> None:
    front = Front("a", "b")
    front.feed(ev.CatalogueTold("a", CatalogueNames({"fast": "m"}, ("m",))))
    front.changed(server("b"))
    front.listed("b")
    assert front.machine.at_once("m") is not None
    assert front.machine.at_once("fast") is None


def test_an_alias_that_the_front_has_not_heard_of_is_placed_as_its_model() -> None:
    front = Front("a", "b")
    by_alias = front.ask("fast")
    front.offer(a=FITS, b=WAITS)
    assert front.host_of(by_alias) == "a"
    assert front.seat(by_alias).model == "m"
    assert front.host_of(front.ask("m")) == "a"


def test_a_refusal_of_an_alias_that_the_front_has_not_heard_of_moves_on() -> None:
    front = Front("a", "b")
    call = front.ask("fast")
    front.offer(a=FITS, b=WAITS)
    front.refuse(call, "a", "POOL_FULL", "fast")
    assert front.asked().hosts == ("b",)
    front.offer(b=WAITS)
    assert front.host_of(call) == "b"
    front.refuse(call, "b", "QUEUE_FULL", "fast")
    assert front.answers[call] == cmd.AsRefused("a")


def test_an_alias_that_means_another_model_elsewhere_means_that_of_the_host() -> None:
    front = Front("a", "b")
    call = front.ask("fast")
    front.offer(a=replace(WAITS, model="large"), b=replace(FITS, model="small"))
    assert front.seat(call).model == "small"
    assert front.host_of(front.ask("small")) == "b"


def test_a_call_is_not_sent_back_to_a_host_where_its_alias_means_another_model() -> None:
    """Nor is the model that it means elsewhere started there, which is READY where it is."""
    front = Front("a", "b")
    front.changed(server("a", "small"))
    call = front.ask("fast")
    front.offer(a=replace(FITS, model="large"), b=replace(WAITS, model="small"))
    front.refuse(call, "a", "POOL_FULL", "fast")
    front.offer(b=replace(WAITS, model="small"))
    assert front.answers[call] == cmd.AsRefused("a")


def test_a_model_stays_where_another_of_its_names_has_placed_it_meanwhile() -> None:
    """Or a refusal of one call would start it twice: the others wait for it where it is."""
    front = Front("a", "b")
    refused = front.place("a")
    by_alias = front.ask("fast")
    of_alias = front.asked().round_id
    front.refuse(refused, "a", "POOL_FULL")
    waiting = front.ask()
    front.feed(ev.OffersCame(of_alias, {"a": FITS}))
    front.offer(b=FITS)
    assert front.host_of(by_alias) == front.host_of(waiting) == "a"
    assert front.answers[refused] == cmd.AsRefused("a")


def test_a_model_that_another_of_its_names_has_placed_is_no_more_refused() -> None:
    front = Front("a", "b")
    by_alias = front.ask("fast", download=True)
    of_alias = front.asked().round_id
    call = front.ask()
    front.feed(ev.OffersCame(of_alias, {"b": FITS}))
    front.offer(a=never("MODEL_NOT_ON_DISK"), b=never("MODEL_NOT_ON_DISK"))
    assert front.host_of(by_alias) == front.host_of(call) == "b"


def test_a_call_leaves_nothing_behind_whatever_its_name_meant() -> None:
    front = Front("a")
    call = front.ask("fast")
    front.offer(a=FITS)
    front.feed(ev.CatalogueTold("a", CatalogueNames({"fast": "other"})))
    front.leave(call)
    # A claim that nobody waits for and that has no server is none.
    call = front.ask("m")
    assert front.waits(call)
