"""Whose turn it is to start."""

from dataclasses import replace

from pool_service.core.admission import PreemptionClass
from pool_service.core.commands import Fetch, Prepare, Publish, SampleMemory
from pool_service.core.errors import ModelRejected
from pool_service.core.events import EstimateFailed, Fetching, MemoryEstimated
from pool_service.core.sampler import FRESH_S
from pool_service.core.server import Phase, ServerId
from pool_service.core.types import FOREVER, Estimate, EstimateSource
from tests.core.parts import (
    DEFAULTS,
    M1,
    NOW,
    Parts,
    answers,
    kinds,
    of_kind,
    refused,
    sample,
    started,
)

# --- what a model needs ---------------------------------------------------------------------


def estimated(parts: Parts, expected: int = 4, *, on_disk: bool = True) -> None:
    row = parts.state.table.find(M1)
    assert row is not None
    estimate = Estimate(expected, EstimateSource.WEIGHTS, on_disk)
    parts.scheduler.on_memory_estimated(row, MemoryEstimated(M1, estimate), NOW)


def waiting(parts: Parts) -> None:
    """Put a server into the queue whose need is being found out."""
    parts.waits(1)
    row = parts.there(phase=Phase.QUEUED)
    row.is_estimating = True


def test_what_is_known_to_fit_lines_up_for_as_long_as_anybody_may() -> None:
    parts = Parts(memory_budget=4, queue_timeout=60.0)
    waiting(parts)
    estimated(parts, 4)
    server = parts.shown()
    assert (server.phase, server.expected, server.step_deadline) == (Phase.QUEUED, 4, NOW + 60.0)
    assert parts.state.capacity_changed
    assert answers(parts.taken()) == {}


def test_a_start_that_never_fits_is_dropped() -> None:
    parts = Parts(memory_budget=4)
    waiting(parts)
    estimated(parts, 5)
    assert refused(parts.taken()) == {1: "ModelTooLarge"}
    assert parts.server() is None
    assert parts.state.queue == {}


def test_files_are_downloaded_if_any_of_those_who_wait_allows_it() -> None:
    parts = Parts()
    waiting(parts)
    parts.waits(2, download=True)
    estimated(parts, on_disk=False)
    issued = parts.taken()
    assert of_kind(issued, Fetch) == [Fetch(M1, parts.shown().settings)]
    assert refused(issued) == {}
    row = parts.state.table.find(M1)
    assert row is not None
    parts.scheduler.on_fetching(row, Fetching(M1, 5, 10))
    assert parts.shown().progress == 0.5
    parts.taken()
    parts.scheduler.on_fetched(row)
    assert kinds(parts.taken()) == ["EstimateMemory"]


def test_files_that_nobody_may_download_drop_the_start() -> None:
    parts = Parts()
    waiting(parts)
    estimated(parts, on_disk=False)
    assert refused(parts.taken()) == {1: "ModelNotOnDisk"}
    assert parts.server() is None


def test_what_cannot_be_loaded_fails_and_is_remembered() -> None:
    parts = Parts(failure_memory=2.0)
    waiting(parts)
    row = parts.state.table.find(M1)
    assert row is not None
    error = ModelRejected("no such model", model="m")
    parts.scheduler.on_estimate_failed(row, EstimateFailed(M1, error), NOW)
    assert answers(parts.taken()) == {1: error}
    assert parts.state.failed_starts.find("m", "m", NOW + 1.0) is error


def test_an_answer_that_nobody_waits_for_any_more_changes_nothing() -> None:
    parts = Parts()
    row = parts.queued(needed=4)
    estimated(parts, 9)
    parts.scheduler.on_estimate_failed(row, EstimateFailed(M1, ModelRejected("no")), NOW)
    parts.scheduler.on_fetching(row, Fetching(M1, 5, 10))
    parts.scheduler.on_fetched(row)
    assert parts.taken() == []
    assert row.server.expected == 4


# --- whose turn it is -----------------------------------------------------------------------


def test_nobody_starts_by_an_old_sample_and_the_next_one_is_taken() -> None:
    parts = Parts()
    parts.sampled(now=NOW - FRESH_S - 0.1)
    parts.queued(needed=4)
    assert not parts.scheduler.schedule(NOW)
    issued = parts.taken()
    assert of_kind(issued, Prepare) == []
    assert len(of_kind(issued, SampleMemory)) == 1


def test_where_nobody_waits_for_a_turn_no_sample_is_taken() -> None:
    parts = Parts()
    waiting(parts)
    parts.state.capacity_changed = True
    assert parts.scheduler.schedule(NOW)
    assert parts.taken() == []
    assert not parts.state.capacity_changed


def test_those_start_who_came_first_as_many_as_may_at_a_time() -> None:
    parts = Parts(max_starts=2)
    for model in ("b", "c", "a"):
        parts.queued(model, needed=4)
    assert started(parts) == ["b", "c"]
    assert parts.shown("a").detail == "waits for others to start, 2 at a time"
    assert parts.shown("a").position == 1
    assert list(parts.state.queue) == [ServerId("a", 1)]


def test_the_budget_holds_to_the_last_byte() -> None:
    parts = Parts(memory_budget=10)
    parts.queued("a", needed=6)
    parts.queued("b", needed=4)
    parts.queued("c", needed=1)
    assert started(parts) == ["a", "b"]


def test_what_a_standby_takes_is_there_for_servers_and_the_reserve_is_not() -> None:
    parts = Parts(memory_reserve=2)
    parts.sampled(replace(sample(available=5), standbys=1))
    parts.queued("a", needed=5)
    parts.queued("b", needed=4)
    assert started(parts) == ["b"]


def test_what_can_be_helped_by_nobody_lets_a_smaller_one_pass() -> None:
    parts = Parts(memory_budget=10)
    held = parts.there("held", expected=6)
    parts.holds(7, "held")
    parts.queued("large", needed=6)
    parts.queued("small", needed=4)
    assert started(parts) == ["small"]
    assert "'held' to go, which the pool does not preempt" in parts.shown("large").detail
    assert not held.is_preempted


def test_that_a_server_waits_is_published_when_it_is_news() -> None:
    parts = Parts(max_starts=0)
    parts.queued(needed=4)
    parts.sampled()
    told = []
    for _ in range(3):
        parts.scheduler.schedule(NOW)
        told += of_kind(parts.taken(), Publish)
    assert len(told) == 1


# --- preemption classes ------------------------------------------------------------------------


def test_the_preemption_class_of_a_server_follows_from_its_phase_and_its_use() -> None:
    parts = Parts()
    parts.there("unused")
    parts.there("busy").busy_until = NOW + 1.0
    parts.there("held")
    parts.holds(7, "held")
    parts.there("pinned", settings=replace(DEFAULTS, runtime_model="pinned", pinned=True))
    parts.there("coming", Phase.STARTING)
    parts.there("leaving", Phase.STOPPING)
    parts.evicts(8, parts.there("evicted"))
    in_use = parts.there("evicted and busy")
    in_use.busy_until = NOW + 1.0
    parts.evicts(9, in_use)
    parts.there("failed", Phase.FAILED)
    parts.queued(needed=4)
    capacity = parts.scheduler.capacity(NOW)
    found = {one.candidate.server_id.model: one.preemption_class for one in capacity.residents()}
    assert found == {
        "unused": PreemptionClass.UNUSED,
        "busy": PreemptionClass.BUSY,
        "held": PreemptionClass.PROTECTED,
        "pinned": PreemptionClass.PROTECTED,
        "coming": PreemptionClass.STARTING,
        "leaving": PreemptionClass.LEAVING,
        "evicted": PreemptionClass.LEAVING,
        "evicted and busy": PreemptionClass.BUSY,
    }
    assert (capacity.available, capacity.returning) == (FOREVER, False)
