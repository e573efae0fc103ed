"""Claims about the table of scenarios: it leaves nothing out, and repeats nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.conformance.expected import ANY, Said, difference, filled, including, saying
from tests.conformance.kinds import Kind
from tests.conformance.matrix import BEGIN, END, Matrix
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios import AREAS
from tests.conformance.steps import Do, End

BY_NO_CLIENT = {
    "INVALID_EPOCH",
    "INVALID_FLEET_CALL",
    "INVALID_FRONT",
    "INVALID_HOLD",
    "INVALID_REQUEST",
    "POOL_UNREACHABLE",
    "STALE_FLEET",
}
"""Reasons that only a program without generated code gets, or a front, or a front's caller, who
tries again as after any UNAVAILABLE: see tests/rpc/test_malformed.py, tests/rpc/test_fleet_calls.py
and the unit tests of each client."""

ERRORS = Path(__file__).parents[2] / "docs/reference/errors.md"
SCENARIOS = [scenario for scenarios in AREAS.values() for scenario in scenarios]


def failures_of(scenario: Scenario) -> Iterator[str]:
    """The reasons that it expects."""
    for step in scenario.steps:
        if isinstance(step, Do | End) and isinstance(step.fails, dict):
            yield step.fails.get("reason", "")


def test_only_rows_of_no_fleet_are_not_played_through_a_front() -> None:
    real = [one for one in SCENARIOS if isinstance(one.world, Kind)]
    assert {one.claim for one in real if one.left_out_of_fleets} == {
        "reload reports what a changed configuration replaces and updates",
        "where nobody listens, connect_or_start starts one service, however many clients ask",
        "connect_or_start says what keeps the service from starting",
    }
    assert all(one.left_out_of_fleets for one in SCENARIOS if one not in real)
    assert len(real) > 90


def test_no_claim_is_made_twice() -> None:
    claims = [scenario.claim for scenario in SCENARIOS]
    assert len(set(claims)) == len(claims)


def test_every_call_of_the_service_is_made() -> None:
    made = {name for scenario in SCENARIOS for name in scenario.calls or ()}
    assert made == set(pb.DESCRIPTOR.services_by_name["PoolService"].methods_by_name)


def test_every_reason_of_the_reference_is_provoked() -> None:
    rows = re.findall(r"^\| ([A-Z_, ]+) \|", ERRORS.read_text(), re.MULTILINE)
    reasons = {reason for row in rows for reason in row.split(", ")}
    assert len(reasons) > 20
    provoked = {reason for scenario in SCENARIOS for reason in failures_of(scenario)}
    assert reasons - provoked == BY_NO_CLIENT


def test_a_difference_is_reported_with_its_place() -> None:
    assert difference({"a": [1, ANY]}, {"a": [1, 2], "more": 3}) is None
    absent = difference({"a": [1, ANY]}, {"a": [1, None]})
    assert absent == "it.a[1] is None, not anything but null"
    assert difference({"a": 1}, {}) == "it.a is None, not 1"
    assert difference([1], [1, 1]) == "it has 2 elements, not 1: [1, 1]"
    assert difference(including({"a": 1}), [{"a": 2}, {"a": 1, "b": 0}]) is None
    assert difference(including({"a": 1}), [{"a": 2}]) is not None
    assert difference(saying("x"), "axb") is None


def test_texts_and_what_was_said_are_filled_in() -> None:
    pattern = {"model": "{m}", "list": [Said("first.pid")]}
    found = filled(pattern, lambda text: text.replace("{m}", "go/1"), {"first": {"pid": 7}})
    assert found == {"model": "go/1", "list": [7]}


class Ran:
    """A report of a test."""

    def __init__(self, nodeid: str, outcome: str) -> None:
        self.nodeid = nodeid
        self.outcome = outcome


def test_only_what_ran_and_passed_has_a_yes(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    matrix = Matrix({"go": "Go", "rust": "Rust", "other": "Other"})
    for claim in ("one", "two"):
        for column in ("go", "rust", "other"):
            matrix.expect(f"{claim}-{column}", "area", claim, column)
    for nodeid, outcome in (
        ("one-go", "passed"),
        ("one-go", "passed"),
        ("one-rust", "passed"),
        ("one-rust", "failed"),
        ("two-go", "skipped"),
        ("two-go", "passed"),
    ):
        matrix.note(Ran(nodeid, outcome))
    matrix.write(page)
    assert page.read_text() == (
        f"before\n{BEGIN}| area | Go | Rust | Other |\n|---|---|---|---|\n"
        "| one | yes | **no** | – |\n"
        f"| two | – | – | – |\n{END}after\n"
    )
