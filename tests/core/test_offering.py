"""What the pool offers in each of its states, by values."""

from dataclasses import replace

import pytest

from pool_service.core.errors import CodeNotTrusted, CrashLoop, ModelRejected, PoolError
from pool_service.core.events import EnsureRequested
from pool_service.core.offer import Look, LookNeeded, Offer, OfferVerdict
from pool_service.core.sampler import FRESH_S
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, Account, Estimate, EstimateSource, MemorySample
from tests.core.parts import DEFAULTS, NOW, Field, Parts, sample

ON_DISK = Estimate(4, EstimateSource.WEIGHTS, on_disk=True, load_s=7.0)
MISSING = replace(ON_DISK, on_disk=False)
WARM, FITS, EVICTS = OfferVerdict.WARM, OfferVerdict.FITS, OfferVerdict.EVICTS
WAITS, NEVER = OfferVerdict.WAITS, OfferVerdict.NEVER


def offer(
    parts: Parts,
    found: Estimate | PoolError = ON_DISK,
    newer: MemorySample | None = None,
    **asked: Field,
) -> Offer:
    """Return the offer for `m` after a look that found this."""
    question = EnsureRequested(None, "m", **asked)
    told = parts.offering.offer(question, None, NOW)
    if isinstance(told, LookNeeded):
        told = parts.offering.offer(question, Look(told.settings, found, newer), NOW)
    assert isinstance(told, Offer)
    assert parts.state.commands == []
    return told


def refused(parts: Parts, found: Estimate | PoolError = ON_DISK, **asked: Field) -> str:
    """Return the reason with which an Ensure would fail."""
    told = offer(parts, found, **asked)
    assert told.verdict is NEVER
    assert told.error is not None
    return told.error.reason


# --- what is offered ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "phase",
    [Phase.QUEUED, Phase.PREPARING, Phase.STARTING, Phase.READY, Phase.BACKING_OFF],
)
def test_a_model_with_a_server_that_is_ready_or_on_its_way_is_warm(phase: Phase) -> None:
    parts = Parts(memory_budget=10)
    parts.there("m", phase, expected=4, peak=5, usual_load_s=7.0)
    told = offer(parts)
    assert (told.verdict, told.needed, told.usual_load_s) == (WARM, 5, 7.0)


def test_what_is_warm_needs_no_look_at_its_files() -> None:
    parts = Parts()
    parts.there("m")
    assert isinstance(parts.offering.offer(EnsureRequested(None, "m"), None, NOW), Offer)


@pytest.mark.parametrize("phase", [Phase.STOPPING, Phase.CLEANING_UP])
def test_a_server_that_ends_is_waited_for_and_is_warm_if_others_wait_already(phase: Phase) -> None:
    parts = Parts()
    parts.there("m", phase)
    assert offer(parts).verdict is WAITS
    parts.waits(1)
    assert offer(parts).verdict is WARM


def test_a_server_that_goes_for_another_is_waited_for() -> None:
    parts = Parts()
    parts.there("m").preempt("other")
    assert offer(parts).verdict is WAITS


def test_what_fits_is_offered_with_its_cost_and_the_room_that_there_is() -> None:
    parts = Parts({"m": replace(DEFAULTS, runtime_model="org/m")}, memory_budget=10)
    parts.there("other", expected=3)
    told = offer(parts)
    assert told == Offer(
        FITS,
        "m",
        "org/m",
        on_disk=True,
        usual_load_s=7.0,
        needed=4,
        free=7,
        evictable=3,
        listed=True,
    )


def test_a_failed_server_that_may_start_again_fits() -> None:
    parts = Parts()
    parts.there("m", Phase.FAILED)
    assert offer(parts).verdict is FITS


def test_an_alias_is_offered_as_its_model_and_a_named_runtime_model_as_that() -> None:
    parts = Parts(aliases={"m": "meant"})
    told = offer(parts, runtime_model="org/other")
    assert (told.model, told.runtime_model, told.listed) == ("meant", "org/other", False)


def test_unused_servers_go_for_it_and_no_more_than_needed() -> None:
    parts = Parts(memory_budget=10)
    parts.there("a", expected=3)
    parts.there("b", expected=5)
    told = offer(parts)
    assert (told.verdict, told.evicted, told.evictable, told.free) == (EVICTS, 3, 8, 2)


def test_servers_in_use_are_waited_for() -> None:
    parts = Parts(memory_budget=10)
    parts.there("a", expected=8).busy_until = NOW + 1.0
    told = offer(parts)
    assert (told.verdict, told.evicted, told.evictable) == (WAITS, 0, 8)


def test_who_is_before_it_in_the_queue_and_may_not_be_passed_is_waited_for() -> None:
    parts = Parts(memory_budget=10)
    parts.there("a", expected=6)
    parts.queued("b", needed=5)
    told = offer(parts)
    assert (told.verdict, told.queued) == (WAITS, 1)


def test_a_start_whose_need_is_not_known_yet_keeps_nobody_back() -> None:
    parts = Parts(memory_budget=10)
    parts.queued("b", needed=9).is_estimating = True
    told = offer(parts)
    assert (told.verdict, told.queued) == (FITS, 1)


def test_a_queued_model_is_behind_those_that_came_before_it_alone() -> None:
    parts = Parts()
    for model in ("a", "m", "b"):
        parts.queued(model)
    assert (offer(parts).verdict, offer(parts).queued) == (WARM, 1)


def test_starts_beyond_the_limit_wait() -> None:
    parts = Parts(max_starts=1)
    parts.there("a", Phase.STARTING)
    assert offer(parts).verdict is WAITS


def test_a_backoff_is_waited_for() -> None:
    parts = Parts()
    parts.there("m", Phase.FAILED, retry_at=NOW + 5.0)
    assert offer(parts).verdict is WAITS


def test_files_that_may_be_downloaded_are_offered_as_missing() -> None:
    parts = Parts()
    told = offer(parts, MISSING, download=True)
    assert (told.verdict, told.on_disk) == (FITS, False)


# --- what would fail ------------------------------------------------------------------------


def test_a_model_larger_than_the_budget_never_starts() -> None:
    parts = Parts(memory_budget=3)
    assert refused(parts) == "MODEL_TOO_LARGE"
    assert offer(parts).needed == 4


def test_a_guess_is_no_reason_to_refuse() -> None:
    parts = Parts(memory_budget=3)
    guess = replace(ON_DISK, source=EstimateSource.UNKNOWN)
    assert (offer(parts, guess).verdict, offer(parts, guess).needed) == (FITS, 3)


def test_an_unlisted_model_is_refused_where_only_listed_ones_are_served() -> None:
    assert refused(Parts(only_listed=True)) == "MODEL_UNKNOWN"


def test_missing_files_that_may_not_be_downloaded_are_refused() -> None:
    parts = Parts()
    assert refused(parts, MISSING) == "MODEL_NOT_ON_DISK"
    assert refused(parts, MISSING, download=False) == "MODEL_NOT_ON_DISK"


def test_code_that_is_not_trusted_is_refused_with_the_error_of_the_look() -> None:
    error = CodeNotTrusted("it brings code", model="m")
    assert offer(Parts(), error).error is error


def test_a_crash_loop_is_refused_with_the_rest_of_its_time() -> None:
    parts = Parts()
    loop = CrashLoop("it dies", model="m", retry_after=30.0)
    parts.there("m", Phase.FAILED, failure=loop, retry_at=NOW + 5.0)
    error = offer(parts).error
    assert isinstance(error, CrashLoop)
    assert error.retry_after == 5.0


def test_a_start_that_failed_lately_is_refused_with_its_error() -> None:
    parts = Parts()
    error = ModelRejected("no such model", model="m")
    parts.state.failed_starts.add("m", "m", error, NOW + 1.0)
    assert offer(parts).error is error


def test_another_runtime_model_than_the_one_that_runs_is_refused() -> None:
    parts = Parts()
    parts.there("m")
    assert refused(parts, runtime_model="org/other") == "RUNTIME_MODEL_CONFLICT"


def test_a_full_queue_is_refused() -> None:
    parts = Parts(queue_limit=1)
    parts.queued("a")
    assert refused(parts) == "QUEUE_FULL"


def test_a_pool_that_shuts_down_refuses_everything() -> None:
    parts = Parts()
    parts.there("m")
    parts.state.is_closing = True
    assert refused(parts) == "SHUTTING_DOWN"


def test_more_than_the_share_of_its_account_is_refused() -> None:
    parts = Parts(memory_budget=10)
    assert refused(parts, account=Account("small", 0.3)) == "QUOTA_EXCEEDED"
    assert offer(parts, account=Account("large", 0.4)).verdict is FITS


# --- the memory of the machine --------------------------------------------------------------


@pytest.mark.parametrize(("age", "wants"), [(FRESH_S, False), (FRESH_S + 0.1, True)])
def test_a_sample_is_wanted_if_the_last_one_is_too_old_to_start_by(age: float, wants: bool) -> None:
    parts = Parts()
    parts.sampled(now=NOW - age)
    told = parts.offering.offer(EnsureRequested(None, "m"), None, NOW)
    assert isinstance(told, LookNeeded)
    assert told.wants_sample is wants


def test_the_newer_sample_counts_and_without_one_the_last() -> None:
    parts = Parts(memory_reserve=1)
    assert offer(parts).free is None
    parts.sampled(sample(available=9), now=NOW - 60.0)
    assert (offer(parts).verdict, offer(parts).free) == (FITS, 8)
    told = offer(parts, newer=sample(available=3))
    assert (told.verdict, told.free) == (WAITS, 2)


def test_pressure_is_waited_for_by_the_newer_sample_unless_nothing_runs() -> None:
    parts = Parts()
    parts.sampled(now=NOW - 60.0)
    critical = replace(sample(), pressured=True, critical=True)
    assert offer(parts, newer=critical).verdict is FITS
    parts.there("a", Phase.STARTING)
    assert offer(parts, newer=critical).verdict is WAITS
    assert offer(parts, newer=sample()).verdict is FITS


def test_what_was_found_for_other_settings_does_not_count() -> None:
    parts = Parts()
    look = Look(replace(DEFAULTS, runtime_model="org/old"), ON_DISK, None)
    told = parts.offering.offer(EnsureRequested(None, "m"), look, NOW)
    assert isinstance(told, LookNeeded)
    assert told.settings.runtime_model == "m"


def test_without_any_limit_nothing_is_said_of_what_is_free() -> None:
    assert offer(Parts(memory_budget=FOREVER)).free is None
