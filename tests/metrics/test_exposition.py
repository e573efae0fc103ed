"""The text of the metrics, read by Prometheus's own parser, and by promtool."""

import time
from collections.abc import Iterable
from dataclasses import replace

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pool_service.core.server import Phase, Role, Server
from pool_service.core.types import FOREVER
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.exposition import STATES, pieces
from pool_service.metrics.families import FAMILIES, Kind
from pool_service.metrics.text import LINES_A_PIECE, escape
from pool_service.metrics.values import MAX_UNLISTED, OTHER
from pool_service.metrics.view import View
from pool_service.rpc.wire import CAUSES
from pool_service.rpc.wire import STATES as ON_THE_WIRE
from pool_service.v1 import pool_service_pb2 as pb
from tests.metrics.views import SETTINGS, server, totals, view
from tests.promtool import needs_promtool, promtool

AWKWARD = 'a\\b"c\nd{e="f"} 1'


def text(shown: View) -> str:
    return "".join(pieces(shown))


def read(shown: View) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text(shown))}


def value(shown: View, name: str, **labels: str) -> float:
    """The one sample of this name that has these labels among its own."""
    (found,) = [
        sample.value
        for family in read(shown).values()
        for sample in family.samples
        if sample.name == f"pool_service_{name}" and labels.items() <= sample.labels.items()
    ]
    return float(found)


def test_every_family_is_written_once_with_its_type_and_its_help() -> None:
    lines = text(view([server("m")])).splitlines()
    helps = [line for line in lines if line.startswith("# HELP ")]
    types = [line for line in lines if line.startswith("# TYPE ")]
    assert sorted(types) == sorted(f"# TYPE {one.full_name} {one.kind}" for one in FAMILIES)
    assert sorted(helps) == sorted(f"# HELP {one.full_name} {one.help}" for one in FAMILIES)


def test_every_family_has_samples_with_its_labels_and_no_others() -> None:
    found = read(view([server("m")]))
    for family in FAMILIES:
        name = family.full_name.removesuffix("_total" if family.kind is Kind.COUNTER else "")
        assert found[name].type == family.kind
        assert {frozenset(one.labels) - {"le"} for one in found[name].samples} == {
            frozenset(family.labels)
        }


@needs_promtool
def test_promtool_finds_nothing_to_say() -> None:
    said = promtool("check", "metrics", given=text(view([server("m"), server(AWKWARD)])))
    assert (said.code, said.text) == (0, "")


@pytest.mark.parametrize("model", [AWKWARD, "\\", '"', "\n", "org/model:4bit", "a b", "ü"])
def test_any_name_is_read_back_as_it_is(model: str) -> None:
    assert value(view([server(model)]), "server_generation", model=model) == 1
    assert "\n" not in escape(model)


def test_a_server_is_shown_with_all_that_is_known_of_it() -> None:
    settings = SETTINGS.__class__(runtime_model="r", pinned=True)
    shown = view(
        [
            server(
                "m",
                settings=settings,
                generation=7,
                expected=300,
                footprint=200,
                holds=2,
                last_used_at=12.5,
            )
        ],
        totals=totals(waiting_by_model={"m": 3, "gone": 1}),
    )
    figures = {
        name: value(shown, f"server_{name}", model="m")
        for name in (
            "expected_bytes",
            "footprint_bytes",
            "holds",
            "waiting_calls",
            "generation",
            "pinned",
            "last_use_timestamp_seconds",
        )
    }
    assert list(figures.values()) == [300, 200, 2, 3, 7, 1, 1012.5]


@pytest.mark.parametrize("phase", Phase)
def test_one_state_is_1_and_the_others_are_0_and_it_is_the_one_that_list_shows(
    phase: Phase,
) -> None:
    (family,) = [
        one for name, one in read(view([server("m", phase)])).items() if name.endswith("_state")
    ]
    shown = {one.labels["state"]: one.value for one in family.samples}
    said = pb.ServerState.Name(ON_THE_WIRE[phase]).removeprefix("SERVER_STATE_")
    assert shown == {**dict.fromkeys(STATES.values(), 0), said: 1}


def test_causes_have_the_names_that_list_shows() -> None:
    for cause, number in CAUSES.items():
        assert pb.ExitCause.Name(number) == f"EXIT_CAUSE_{cause.name}"


def test_a_successor_is_added_to_the_server_beside_it_and_an_orphan_is_of_no_model() -> None:
    shown = view(
        [
            server("m", footprint=5, generation=3),
            server("m", Phase.STARTING, role=Role.SUCCESSOR, footprint=6, generation=4),
            server("", Phase.STOPPING, role=Role.ORPHAN),
        ]
    )
    assert value(shown, "server_footprint_bytes", model="m") == 11
    assert value(shown, "server_generation", model="m") == 4
    assert value(shown, "server_state", model="m", state="READY") == 1
    assert value(shown, "server_state", model="m", state="STARTING") == 1
    assert 'model=""' not in text(shown)


def test_models_beyond_the_bound_are_one_together() -> None:
    more = 7
    servers = [server(f"other/{number:03}", holds=1) for number in range(MAX_UNLISTED + more)]
    shown = view([server("listed"), *servers])
    assert value(shown, "server_holds", model=OTHER) == more
    (family,) = [one for name, one in read(shown).items() if name.endswith("server_holds")]
    assert len(family.samples) == MAX_UNLISTED + 2


def test_a_histogram_is_cumulative_and_ends_with_all() -> None:
    calls = CallCounts()
    for seconds in (0.0001, 0.0007, 0.0007, 999.0):
        calls.end("Ensure", "OK", seconds)
    shown = view(calls=calls)
    buckets = [
        value(shown, "rpc_duration_seconds_bucket", method="Ensure", le=bound)
        for bound in ("0.0005", "0.001", "300.0", "+Inf")
    ]
    assert buckets == [1, 3, 3, 4]
    assert value(shown, "rpc_duration_seconds_count", method="Ensure") == 4


def test_no_budget_is_infinite_and_no_guard_is_no_sample() -> None:
    shown = view(totals=totals(memory_budget=FOREVER), guard_alive=None)
    assert value(shown, "memory_budget_bytes") == FOREVER
    assert "guard_alive" not in text(shown)


def test_memory_that_is_not_known_is_no_sample() -> None:
    past = totals(memory_total=64, memory_available=3, memory_pressured=True)
    assert value(view(totals=past), "memory_total_bytes") == 64
    for name in ("memory_available_bytes", "memory_pressured"):
        assert f"\npool_service_{name} " not in text(view(totals=past))
        assert value(view(totals=replace(past, memory_current=True)), name) in (3, 1)
    assert "\npool_service_memory_total_bytes " not in text(view(totals=totals()))


def test_counts_that_are_added_while_it_is_written_do_no_harm() -> None:
    shown = view([server("m")])
    for number, _ in enumerate(pieces(shown)):
        shown.calls.end(f"Method{number}", "OK", 1.0)
        shown.pool.starts.add(f"model{number}", "cold", "ready")
        shown.pool.loads[f"m{number}"] = 1, 1.0


def test_the_mean_of_a_summary_is_of_one_moment() -> None:
    counts = view().pool
    models = [f"m{number}" for number in range(LINES_A_PIECE)]
    counts.loads.update((model, (1, 2.0)) for model in models)
    shown = view(pool=counts)
    made = []
    for piece in pieces(shown):
        made.append(piece)
        for model in models:
            count, seconds = counts.loads[model]
            counts.loads[model] = count + 1, seconds + 2.0
    samples = [line for line in "".join(made).splitlines() if "server_start_seconds_" in line]
    found = {line.split(" ")[0]: float(line.split(" ")[1]) for line in samples}
    for model in models:
        both = [
            found[f'pool_service_server_start_seconds_{one}{{model="{model}"}}']
            for one in ("sum", "count")
        ]
        assert both[0] == 2.0 * both[1]


def test_a_piece_is_never_long() -> None:
    for piece in pieces(view(_five_hundred())):
        assert piece.count("\n") <= LINES_A_PIECE


def test_a_piece_for_five_hundred_models_holds_the_loop_for_less_than_two_milliseconds() -> None:
    shown = view(_five_hundred())
    # Of this thread, and the least of some rounds: what the machine does beside is no part of it.
    rounds = [list(_durations(pieces(shown))) for _ in range(7)]
    assert max(map(min, zip(*rounds, strict=True))) < 0.002


def _five_hundred() -> list[Server]:
    return [server(f"org/model-{number:03}") for number in range(500)]


def _durations(made: Iterable[str]) -> Iterable[float]:
    began = time.thread_time()
    for _ in made:
        yield time.thread_time() - began
        began = time.thread_time()
