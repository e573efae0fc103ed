"""One server in the place of another of its model, by values."""

from dataclasses import replace

from pool_service.core import replacement
from pool_service.core.server import Cause, Phase, Role
from pool_service.core.types import EstimateSource
from tests.core.parts import DEFAULTS, NOW, ended, made

SERVER = made(
    generation=3,
    expected=50,
    expected_by=EstimateSource.OBSERVED,
    usual_load_s=12.0,
    keep_alive=7.0,
    settings=replace(DEFAULTS, runtime_model="m", memory_limit=40),
)


def test_a_superseded_server_serves_no_longer_and_ended_as_wedged_for_the_reason_given() -> None:
    gone = replacement.superseded(SERVER, "it fell silent", NOW)
    assert (gone.role, gone.outdated) == (Role.SUPERSEDED, True)
    assert gone.last_exit is not None
    assert (gone.last_exit.generation, gone.last_exit.cause) == (3, Cause.WEDGED)
    assert (gone.last_exit.report.message, gone.last_exit.at) == ("it fell silent", NOW)


def test_a_successor_is_the_next_generation_and_needs_no_more_than_the_memory_limit() -> None:
    successor = replacement.successor(SERVER, NOW)
    assert (successor.generation, successor.role) == (4, Role.SUCCESSOR)
    assert (successor.phase, successor.expected) == (Phase.QUEUED, 40)
    assert (successor.settings, successor.keep_alive) == (SERVER.settings, 7.0)
    assert successor.usual_load_s == 12.0
    assert (successor.identity, successor.ready_at, successor.footprint) == (None, None, 0)


def test_a_successor_that_failed_does_not_give_its_generation_to_the_next_one() -> None:
    successor = replacement.successor(SERVER, NOW)
    before = replacement.succeeded_by(SERVER, successor)
    assert before.last_generation == 4
    assert replacement.successor(before, NOW).generation == 5


def test_a_replaced_server_stays_for_its_residency_and_then_goes() -> None:
    retired = replacement.retired(SERVER, NOW)
    assert (retired.role, retired.phase) == (Role.SUPERSEDED, Phase.READY)
    assert retired.expires_at == NOW + DEFAULTS.grace_period
    assert "was replaced" in retired.detail


def test_a_successor_in_its_place_is_used_as_the_one_before_was() -> None:
    before = replace(
        ended(SERVER), last_used_at=NOW - 5.0, spared_until=NOW + 9.0, crashes=(1.0, 2.0)
    )
    successor = replace(
        replacement.successor(before, NOW), phase=Phase.READY, last_used_at=NOW + 60.0
    )
    current = replacement.succeeding(successor, before)
    assert (current.role, current.generation) == (Role.CURRENT, 4)
    assert (current.last_used_at, current.spared_until) == (NOW - 5.0, NOW + 9.0)
    assert (current.keep_alive, current.crashes) == (7.0, (1.0, 2.0))
    assert current.last_exit == before.last_exit
