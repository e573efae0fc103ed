"""The picture of the pool: what counts when Watch and List tell different things."""

from pool_service.cli.top.picture import MAX_DESCRIBED, row_of
from pool_service_client import Synced
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import (
    GB,
    NOW,
    changed,
    describe,
    described,
    know,
    look,
    picture,
    receive,
    removed,
    server,
)
from tests.client.scripted import ready


def test_a_look_brings_the_memory_that_watch_does_not_tell() -> None:
    shown = picture(server("m"))
    look(shown, ready("m", footprint_bytes=3 * GB))
    assert shown.used_bytes() == 3 * GB


def test_a_look_from_before_a_change_does_not_undo_it() -> None:
    shown = picture(server("m"))
    receive(shown, changed(server("m", state=pb.SERVER_STATE_STOPPING), revision=5))
    look(shown, ready("m", footprint_bytes=3 * GB), revision=4)
    assert [one.state.name for one in shown.servers.values()] == ["STOPPING"]


def test_a_look_neither_adds_nor_removes_a_server() -> None:
    shown = picture(server("a"))
    look(shown, ready("b"), revision=9)
    assert [row.model for row in shown.rows()] == ["a"]


def test_a_server_that_went_is_gone() -> None:
    shown = picture(server("a"), server("b"))
    receive(shown, removed(server("a"), revision=2))
    assert [row.model for row in shown.rows()] == ["b"]


def test_what_the_next_service_does_not_tell_is_gone_only_when_it_has_told_all() -> None:
    shown = picture(server("a"), server("b"))
    shown.lose("gone", NOW)
    shown.begin()
    receive(shown, changed(server("b"), revision=9))
    assert [row.model for row in shown.rows()] == ["a", "b"]
    assert shown.outage is not None
    receive(shown, Synced(9))
    assert [row.model for row in shown.rows()] == ["b"]
    assert shown.outage is None


def test_an_outage_counts_from_its_first_failure() -> None:
    shown = picture()
    shown.lose("first", NOW)
    shown.lose("second", NOW.replace(hour=13))
    assert shown.outage is not None
    assert (shown.outage.since, shown.outage.why) == (NOW, "second")


def test_models_without_a_server_come_after_the_servers() -> None:
    shown = picture(server("z"), server("b", generation=2), server("b"))
    know(shown, [pb.Model(model="a"), pb.Model(model="b")])
    assert [row.key for row in shown.rows()] == [
        ("b", 1, ""),
        ("b", 2, ""),
        ("z", 1, ""),
        ("a", 0, ""),
    ]


def test_only_the_chosen_model_is_described_while_nobody_waits() -> None:
    starting = server("s", state=pb.SERVER_STATE_STARTING)
    shown = picture(server("a"), starting, server("z"))
    look(shown)
    assert shown.models_to_describe("z") == ["z"]
    assert shown.models_to_describe(None) == ["a"]
    look(shown, waiting_calls=1)
    assert shown.models_to_describe("z") == ["z", "s"]


def test_beside_a_choice_without_a_server_one_is_described_for_the_order() -> None:
    shown = picture(server("a"), server("z"))
    assert shown.models_to_describe("unused") == ["unused", "a"]
    assert shown.around_choice("unused") == ["unused", "a"]
    assert shown.around_choice("z") == ["z"]


def test_the_order_is_that_of_the_newest_description() -> None:
    shown = picture(server("a"), server("b"))
    describe(shown, "a", next_to_go=[pb.EvictionCandidate(model="a", generation=1)])
    describe(shown, "b", next_to_go=[pb.EvictionCandidate(model="b", generation=1)])
    assert list(shown.next_to_go()) == [("b", 1, "")]


def test_a_refused_description_takes_the_place_of_an_earlier_one() -> None:
    shown = picture(server("a"), server("b"))
    describe(shown, "a")
    describe(shown, "b")
    shown.learn({"a": "not listed"}, 0, 0, anew=False)
    assert (list(shown.descriptions), dict(shown.refusals)) == (["b"], {"a": "not listed"})
    describe(shown, "a")
    assert (list(shown.descriptions), shown.refusals) == (["a", "b"], {})
    shown.learn({}, 1, 1, anew=True)
    assert shown.descriptions == {}


def test_descriptions_stay_while_none_is_answered() -> None:
    shown = picture(server("a"), server("b"))
    describe(shown, "c")
    describe(shown, "a")
    shown.learn({"b": "not listed"}, 0, 0, anew=False)
    for anew in (False, True):
        shown.learn({"a": None, "b": None}, 90, 100, anew=anew)
        assert (list(shown.descriptions), list(shown.refusals)) == (["a", "c"], ["b"])
    shown.learn({"a": None, "b": described("b")}, 190, 200, anew=True)
    assert list(shown.descriptions) == ["b", "a"]


def test_an_answer_neither_replaces_nor_forgets_what_was_learnt_after_it_was_asked_for() -> None:
    shown = picture(server("a"), server("b"), server("c"))
    describe(shown, "c", at_s=1)
    describe(shown, "a", at_s=6, waiting_calls=6)
    describe(shown, "b", at_s=6)
    late = {"a": described("a", waiting_calls=5), "d": described("d")}
    shown.learn(late, 5, 7, anew=True)
    assert set(shown.descriptions) == {"a", "b", "d"}
    assert shown.descriptions["a"].waiting_calls == 6


def test_an_old_description_stays_only_of_a_model_that_is_waited_for_and_until_the_next_look() -> (
    None
):
    shown = picture(server("a"), server("q", state=pb.SERVER_STATE_QUEUED), server("b"))
    describe(shown, "a", at_s=0)
    describe(shown, "q", at_s=0)
    describe(shown, "b", at_s=4)
    assert set(shown.descriptions) == {"a", "q", "b"}
    describe(shown, "b", at_s=4.1)
    assert set(shown.descriptions) == {"q", "b"}
    shown.learn({"b": described("b")}, 5, 5, anew=True)
    assert set(shown.descriptions) == {"b"}


def test_however_many_models_are_waited_for_few_are_described() -> None:
    queued = [server(f"m{place}", state=pb.SERVER_STATE_QUEUED) for place in range(50)]
    shown = picture(*queued)
    look(shown, waiting_calls=50)
    assert len(shown.models_to_describe("m3")) == MAX_DESCRIBED


def test_an_orphan_has_no_name_to_describe_it_by() -> None:
    shown = picture(server("", role=pb.SERVER_ROLE_ORPHAN))
    assert shown.models_to_describe("") == []


def test_places_of_all_servers_are_known_from_any_description() -> None:
    shown = picture(server("a"), server("b", generation=4))
    order = [
        pb.EvictionCandidate(model="b", generation=4, busy=True),
        pb.EvictionCandidate(model="a", generation=1),
    ]
    describe(shown, "a", next_to_go=order)
    places = {key: (place, one.busy) for key, (place, one) in shown.next_to_go().items()}
    assert places == {("b", 4, ""): (1, True), ("a", 1, ""): (2, False)}


def test_the_chosen_row_is_found_again_by_its_key_then_its_model_then_its_place() -> None:
    rows = picture(server("a"), server("b", generation=2), server("c")).rows()
    assert row_of(rows, ("b", 2, "")) == 1
    assert row_of(rows, ("b", 1, "")) == 1
    assert row_of(rows, ("gone", 1, ""), index=2) == 2
    assert row_of(rows, ("gone", 1, ""), index=9) == 2
    assert row_of([], None) == 0


def test_two_hosts_may_have_a_server_of_one_model_and_generation() -> None:
    old, new = server("a", host="mini"), server("a", host="studio", generation=2)
    shown = picture(old, server("a", host="studio"), new)
    assert [row.key for row in shown.rows()] == [
        ("a", 1, "mini"),
        ("a", 1, "studio"),
        ("a", 2, "studio"),
    ]
    assert shown.hosts() == ["mini", "studio"]
    receive(shown, removed(old))
    assert [row.key for row in shown.rows()] == [("a", 1, "studio"), ("a", 2, "studio")]
    assert shown.current("a") == new


def test_each_host_has_an_order_of_its_own_and_is_asked_for_it() -> None:
    shown = picture(server("a", host="mini"), server("b", host="mini"), server("c", host="studio"))
    look(shown)
    assert shown.models_to_describe("b") == ["b", "c"]
    for model, host in (("b", "mini"), ("c", "studio")):
        describe(
            shown,
            model,
            servers=[ready(model, host=host)],
            next_to_go=[pb.EvictionCandidate(model=model, generation=1)],
        )
    places = {key: place for key, (place, _) in shown.next_to_go().items()}
    assert places == {("b", 1, "mini"): 1, ("c", 1, "studio"): 1}


def test_the_host_of_an_order_is_known_by_its_candidates_if_its_model_has_no_server() -> None:
    shown = picture(server("a", host="mini"), server("b", host="studio"))
    describe(shown, "none", next_to_go=[pb.EvictionCandidate(model="b", generation=1)])
    assert list(shown.next_to_go()) == [("b", 1, "studio")]
