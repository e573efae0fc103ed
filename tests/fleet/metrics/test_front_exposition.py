"""The text of a front's metrics, read by Prometheus's own parser, and by promtool."""

import time
from dataclasses import replace

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pool_service.fleet.core.member import Member
from pool_service.fleet.core.values import Lead, Presence, Report, ServerState
from pool_service.fleet.metrics.exposition import FrontView, pieces
from pool_service.fleet.metrics.families import FAMILIES
from pool_service.fleet.metrics.front_counts import ForwardCounts, FrontCounts, HostLabels
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.families import FAMILIES as OF_SERVICE
from pool_service.metrics.families import Kind
from pool_service.metrics.values import Histogram
from tests.fleet.core.fronts import server
from tests.promtool import needs_promtool, promtool


def member(host: str, presence: Presence = Presence.PRESENT, *models: str) -> Member:
    made = Member(host, f"{host}:1", 3.0, 0.0, presence, report=Report())
    for model in models:
        one = server(host, model)
        made.servers[one.key] = one
    return made


def view(*members: Member, **more: object) -> FrontView:
    """A view. It has a count of each family."""
    labels = HostLabels()
    counts, forwards, calls = FrontCounts(labels, lambda: 0.0), ForwardCounts(labels), CallCounts()
    counts.beats = {one.host: 5.0 for one in members}
    for counter in (counts.losses, counts.placings, counts.moves, counts.unplaced, counts.ensures):
        counter.add("x")
    forwards.end("a", "Ensure", "OK", 0.002)
    forwards.open_stream("a", "Hold")
    calls.end("Ensure", "OK", 0.003)
    calls.open_stream("Watch")
    values = {
        "version": "1.2.3",
        "started_at": 1000.5,
        "members": members,
        "lead": Lead(leads=True),
        "epoch": 7,
        "may_place": True,
        "wall": lambda at: 1000.0 + at,
        "counts": counts,
        "forwards": forwards,
        "calls": calls,
        "loop_lag": Histogram((0.01, 0.1)),
        "log_lines_dropped": 0,
        **more,
    }
    return FrontView(**values)  # type: ignore[arg-type]


def read(shown: FrontView) -> dict[str, Metric]:
    return {one.name: one for one in text_string_to_metric_families("".join(pieces(shown)))}


def value(shown: FrontView, name: str, **labels: str) -> float:
    """The one sample of this name that has these labels."""
    samples = [sample for family in read(shown).values() for sample in family.samples]
    full = f"pool_service_fleet_{name}"
    (found,) = [one.value for one in samples if one.name == full and one.labels == labels]
    return float(found)


def test_every_family_is_written_once_with_its_labels_and_no_others() -> None:
    shown = view(member("a", Presence.PRESENT, "m"))
    lines = "".join(pieces(shown)).splitlines()
    types = [line for line in lines if line.startswith("# TYPE ")]
    assert sorted(types) == sorted(f"# TYPE {one.full_name} {one.kind}" for one in FAMILIES)
    found = read(shown)
    for family in FAMILIES:
        name = family.full_name.removesuffix("_total" if family.kind is Kind.COUNTER else "")
        assert {frozenset(one.labels) - {"le"} for one in found[name].samples} == {
            frozenset(family.labels)
        }


def test_no_name_is_one_of_a_service_and_no_label_is_a_model() -> None:
    assert not {one.name for one in FAMILIES} & {one.name for one in OF_SERVICE}
    assert not [one.name for one in FAMILIES if "model" in one.labels]


@needs_promtool
def test_promtool_finds_nothing_to_say() -> None:
    said = promtool("check", "metrics", given="".join(pieces(view(member('a"\\')))))
    assert (said.code, said.text) == (0, "")


def test_members_are_shown_by_their_state_and_servers_by_their_host() -> None:
    seen, lost = member("a", Presence.PRESENT, "m", "n"), member("b", Presence.LOST)
    loading = server("a", "o", state=ServerState.STARTING)
    seen.servers[loading.key] = loading
    lost.report = Report(reachable=False)
    shown = view(seen, lost)
    assert value(shown, "members", state="present") == 1
    assert value(shown, "members", state="suspect") == 0
    assert value(shown, "member_state", host="b", state="lost") == 1
    assert value(shown, "member_state", host="b", state="present") == 0
    assert value(shown, "member_reachable", host="a") == 1
    assert value(shown, "member_reachable", host="b") == 0
    assert value(shown, "servers", host="a", state="READY") == 2
    assert value(shown, "servers", host="a", state="STARTING") == 1
    assert value(shown, "servers", host="b", state="READY") == 0
    assert value(shown, "member_last_beat_timestamp_seconds", host="a") == 1005.0


def test_a_member_that_never_answered_has_no_beat() -> None:
    shown = view(member("a"))
    shown.counts.beats.clear()
    assert "last_beat_timestamp_seconds{" not in "".join(pieces(shown))


def test_a_model_on_two_members_is_doubled_and_one_beside_its_successor_is_not() -> None:
    one, other = member("a", Presence.PRESENT, "m"), member("b", Presence.PRESENT, "n")
    successor = replace(server("b", "n", 2), is_current=False)
    other.servers[successor.key] = successor
    assert value(view(one, other), "doubled_models") == 0
    assert value(view(one, member("b", Presence.PRESENT, "m")), "doubled_models") == 1


@pytest.mark.parametrize(
    ("lead", "leads", "known"),
    [
        (Lead(leads=True), 1, 1),
        (Lead(leads=False, epoch=3, address="other:1"), 0, 1),
        (Lead(leads=False), 0, 0),
    ],
)
def test_who_leads_is_told(lead: Lead, leads: int, known: int) -> None:
    shown = view(lead=lead)
    assert (value(shown, "leads"), value(shown, "leader_known")) == (leads, known)
    assert value(shown, "epoch") == 7


def test_a_piece_of_a_large_fleet_holds_the_loop_for_less_than_two_milliseconds() -> None:
    models = [f"m{number}" for number in range(500)]
    shown = view(*(member(f"h{number:02}", Presence.PRESENT, *models) for number in range(16)))
    rounds = []
    for _ in range(7):
        began, times = time.thread_time(), []
        for _ in pieces(shown):
            times.append(time.thread_time() - began)
            began = time.thread_time()
        rounds.append(times)
    # Of this thread, and the least of some rounds: what the machine does beside is no part of it.
    assert max(map(min, zip(*rounds, strict=True))) < 0.002
