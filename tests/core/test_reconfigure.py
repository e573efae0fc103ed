"""What a reload of the configuration makes of servers and of who waits."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import Answer, CancelEstimate, Command
from pool_service.core.errors import PoolError, StartTimeout
from pool_service.core.events import ReloadRequested
from pool_service.core.limits import Limits
from pool_service.core.results import Ensured, Reloaded
from pool_service.core.server import Phase, Role
from pool_service.core.table import TimedOut
from pool_service.core.types import FOREVER, Settings
from tests.core.parts import (
    DEFAULTS,
    M1,
    NOW,
    Field,
    Parts,
    answers,
    ended,
    kinds,
    made,
    of_kind,
    refused,
)

AS = replace(DEFAULTS, runtime_model="m")


def reload(
    parts: Parts,
    models: Mapping[str, Settings] | None = None,
    defaults: Settings = DEFAULTS,
    *,
    only_listed: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> tuple[Reloaded, list[Command]]:
    """Let the configuration say this from now on; return what that changed, and the rest."""
    catalogue = Catalogue(defaults, models or {}, aliases or {}, only_listed)
    event = ReloadRequested(50, catalogue, Limits(max_starts=3))
    parts.reconfiguration.reload(event, NOW)
    issued = parts.taken()
    (answer,) = [one for one in of_kind(issued, Answer) if one.request_id == 50]
    assert isinstance(answer.result, Reloaded)
    issued.remove(answer)
    return answer.result, issued


def test_what_the_configuration_says_as_before_goes_on_untouched() -> None:
    parts = Parts()
    server = parts.there().server
    result, issued = reload(parts)
    assert (result, issued) == (Reloaded(), [])
    assert parts.shown() is server
    assert parts.state.limits.max_starts == 3
    assert parts.state.capacity_changed


def test_limits_of_time_and_memory_count_at_once() -> None:
    parts = Parts()
    parts.there()
    result, _ = reload(parts, defaults=replace(DEFAULTS, pinned=True))
    assert result == Reloaded(updated=("m",))
    assert (parts.shown().settings.pinned, parts.shown().outdated) == (True, False)


def by_the_configuration(parts: Parts) -> tuple[Reloaded, list[Command]]:
    return reload(parts, {"m": replace(AS, pinned=True)})


def by_a_caller_who_pinned_what_is_its_alias_now(
    parts: Parts,
) -> tuple[Reloaded, list[Command]]:
    parts.state.pins.set("old", pinned=True)
    return reload(parts, aliases={"old": "m"})


@pytest.mark.parametrize(
    "pin", [by_the_configuration, by_a_caller_who_pinned_what_is_its_alias_now]
)
def test_a_server_that_a_reload_pins_is_preempted_for_others_no_more(
    pin: Callable[[Parts], tuple[Reloaded, list[Command]]],
) -> None:
    parts = Parts()
    row = parts.there()
    row.preempt("b")
    row.is_cordoned = True
    parts.waits(1)
    result, issued = pin(parts)
    assert result == Reloaded(updated=("m",))
    assert parts.shown().settings.pinned
    assert answers(issued)[1] == Ensured(parts.shown(), started=False)
    assert (row.is_preempted, row.is_cordoned) == (False, False)
    assert parts.state.stories.of("m")[-1].why == "it was pinned"


def test_a_server_that_a_reload_unpins_shows_that_in_its_story() -> None:
    parts = Parts()
    parts.there(settings=replace(AS, pinned=True))
    reload(parts)
    assert parts.state.stories.of("m")[-1].why == "its pin was taken back"


def test_what_decides_the_process_replaces_it_when_it_is_next_unused() -> None:
    parts = Parts()
    parts.there()
    result, _ = reload(parts, {"m": replace(AS, config_hash="new")})
    assert result == Reloaded(replaced=("m",))
    assert (parts.shown().phase, parts.shown().outdated) == (Phase.READY, True)


def test_what_is_listed_no_longer_ends_when_unused_and_who_waits_for_it_is_told() -> None:
    parts = Parts({"m": AS}, only_listed=True)
    parts.there(phase=Phase.STARTING)
    parts.waits(1)
    result, issued = reload(parts, only_listed=True)
    assert result == Reloaded(removed=("m",))
    assert refused(issued) == {1: "ModelUnknown"}
    assert parts.shown().outdated


def test_a_start_after_a_crash_that_was_outdated_before_is_given_up_if_it_is_not_served() -> None:
    parts = Parts({"m": AS}, only_listed=True)
    before = ended(made(phase=Phase.BACKING_OFF, generation=2))
    parts.there(phase=Phase.BACKING_OFF, generation=2, outdated=True, last_exit=before.last_exit)
    parts.waits(1)
    _, issued = reload(parts, only_listed=True)
    assert refused(issued) == {1: "ModelUnknown"}
    assert parts.shown().phase is Phase.FAILED


@pytest.mark.parametrize(
    ("limit", "changes", "deadline"),
    [
        (FOREVER, {}, FOREVER),
        (7.0, {}, NOW - 5.0 + 7.0),
        (7.0, {"suspended_s": 3600.0}, NOW - 5.0 + 3600.0 + 7.0),
        # It was READY under an earlier service, and has to prove that anew.
        (7.0, {"ready_at": NOW - 500.0}, NOW + 7.0),
        (DEFAULTS.start_timeout, {}, NOW + 1.0),
    ],
)
def test_a_start_under_way_has_the_time_that_the_configuration_gives_it_now(
    limit: float, changes: dict[str, Field], deadline: float
) -> None:
    parts = Parts()
    parts.there(phase=Phase.STARTING, spawned_at=NOW - 5.0, step_deadline=NOW + 1.0, **changes)
    reload(parts, defaults=replace(DEFAULTS, start_timeout=limit))
    assert parts.shown().step_deadline == deadline


def test_a_start_without_a_limit_is_limited_again_by_a_reload() -> None:
    parts = Parts(defaults=replace(DEFAULTS, start_timeout=FOREVER))
    parts.there(phase=Phase.STARTING, spawned_at=NOW - 5.0, step_deadline=FOREVER)
    reload(parts)
    assert parts.shown().step_deadline == NOW - 5.0 + DEFAULTS.start_timeout


def test_a_start_whose_log_is_read_ends_after_that_whatever_the_configuration_says() -> None:
    parts = Parts()
    row = parts.there(phase=Phase.STARTING, step_deadline=NOW + 1.0)
    row.timed_out = TimedOut("it took too long", StartTimeout("it took too long"))
    reload(parts, defaults=replace(DEFAULTS, start_timeout=FOREVER))
    assert parts.shown().step_deadline == NOW + 1.0


def test_what_is_on_its_way_out_or_beside_is_no_news() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING)
    parts.there("n", role=Role.SUPERSEDED)
    result, issued = reload(parts, defaults=replace(DEFAULTS, pinned=True))
    assert (result, issued) == (Reloaded(), [])


def test_who_waits_behind_what_is_on_its_way_out_gets_what_is_said_now() -> None:
    parts = Parts()
    parts.there(phase=Phase.STOPPING)
    parts.waits(1, runtime_model="org/named")
    parts.waits(2)
    reload(parts, defaults=replace(DEFAULTS, start_timeout=7.0))
    settings = {waiter.settings for waiter in parts.state.waiters.of("m")}
    assert [(one.start_timeout, one.runtime_model) for one in settings] == [(7.0, "org/named")]


def test_who_waits_behind_it_for_files_that_are_not_allowed_any_more_is_told() -> None:
    parts = Parts({"m": AS})
    parts.there(phase=Phase.STOPPING)
    parts.waits(1, runtime_model="org/named")
    parts.waits(2)
    _, issued = reload(parts, {"m": AS}, only_listed=True)
    assert refused(issued) == {1: "ModelUnknown"}
    (left,) = parts.state.waiters.of("m")
    assert (left.request_id, left.settings.runtime_model) == (2, "m")


def test_what_waits_for_its_turn_keeps_its_place_and_its_need_is_found_out_anew() -> None:
    parts = Parts()
    for model in ("m", "n"):
        parts.queued(model, needed=4)
    row = parts.state.table.find(M1)
    assert row is not None
    row.is_estimating = True
    result, issued = reload(parts, {"m": replace(AS, start_timeout=7.0)})
    assert result == Reloaded(updated=("m",))
    assert next(iter(parts.state.queue)) == M1
    assert kinds(issued) == ["CancelEstimate", "EstimateMemory"]
    assert of_kind(issued, CancelEstimate) == [CancelEstimate(M1)]
    assert row.is_estimating
    assert (row.server.settings.start_timeout, row.server.step_deadline) == (7.0, FOREVER)


def test_what_waits_for_its_turn_and_is_listed_no_longer_is_gone() -> None:
    parts = Parts({"m": AS}, only_listed=True)
    parts.queued()
    _, issued = reload(parts, only_listed=True)
    assert refused(issued) == {100: "ModelUnknown"}
    assert parts.server() is None
    assert parts.state.queue == {}


def test_what_failed_may_have_been_mended() -> None:
    parts = Parts()
    failure = PoolError("no")
    parts.there(phase=Phase.FAILED, failure=failure, retry_at=NOW + 30.0)
    parts.state.failed_starts.add("n", "n", failure, NOW + 30.0)
    reload(parts)
    assert parts.shown().failure is failure, "nothing of it was changed"
    assert parts.state.failed_starts.find("n", "n", NOW) is None
    reload(parts, {"m": replace(AS, start_timeout=7.0)})
    assert (parts.shown().failure, parts.shown().retry_at) == (None, NOW)


def test_what_callers_named_is_forgotten_of_the_models_that_are_listed_now() -> None:
    parts = Parts()
    for model in ("m", "n"):
        parts.state.namings.add(model, "org/named")
    _, issued = reload(parts, {"m": AS})
    assert parts.state.namings.all() == {"n": "org/named"}
    assert kinds(issued) == ["RecordNamings"]


# --- preloading -----------------------------------------------------------------------------

PRELOADED = replace(DEFAULTS, runtime_model="", preload=True)


def test_what_is_to_be_preloaded_from_now_on_starts_and_what_was_before_is_let_alone() -> None:
    parts = Parts({"a": PRELOADED})
    reload(parts, {"a": PRELOADED, "b": PRELOADED, "c": DEFAULTS})
    assert [row.server.model for row in parts.state.table] == ["b"]
    assert (parts.shown("b").phase, parts.shown("b").detail) == (Phase.QUEUED, "is preloaded")
    assert [waiter.request_id for waiter in parts.state.waiters.of("b")] == [None]


@pytest.mark.parametrize("is_closing", [False, True])
def test_nothing_is_preloaded_twice_or_when_the_service_ends(is_closing: bool) -> None:
    parts = Parts({"a": PRELOADED, "b": PRELOADED})
    parts.there("a")
    parts.state.is_closing = is_closing
    parts.reconfiguration.preload({"a", "b"}, NOW)
    expected = [] if is_closing else ["EstimateMemory"]
    assert kinds(parts.taken()) == expected
