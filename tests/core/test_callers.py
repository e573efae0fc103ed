"""Who is served what, by what the catalogue says now."""

from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.events import (
    EnsureRequested,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.server import Cause, Phase, Role, Server
from pool_service.core.types import Settings
from tests.core.acting import drive
from tests.core.invariants import Ledger
from tests.core.parts import DEFAULTS, Parts, answers, ended, made, refused
from tests.core.pools import DEFAULTS as POOL_DEFAULTS
from tests.core.pools import LOST, aside, shown

LISTED = {"m": replace(DEFAULTS, runtime_model="org/m")}


def asks(runtime_model: str = "", *, download: bool | None = None) -> EnsureRequested:
    return EnsureRequested(1, "m", runtime_model, download=download)


# --- what a request comes to ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "asked", "allowed"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_a_download_is_allowed_by_the_call_and_else_by_the_configuration(
    configured: bool, asked: bool | None, allowed: bool
) -> None:
    parts = Parts(defaults=replace(DEFAULTS, download=configured))
    assert parts.callers.waiter("m", EnsureRequested(1, "m", download=asked)).download is allowed


def test_the_callers_word_goes_before_what_was_run_before() -> None:
    callers = Parts().callers
    assert callers.waiter("m", asks(), "org/was").settings.runtime_model == "org/was"
    named = callers.waiter("m", asks("org/named"), "org/was")
    assert (named.runtime_model, named.settings.runtime_model) == ("org/named", "org/named")
    assert callers.waiter("m", asks()).settings.runtime_model == "m"


def of_caller(phase: Phase, cause: Cause) -> Server:
    """Return a server of a runtime model that a caller named, which ended so."""
    settings = replace(DEFAULTS, runtime_model="org/was", asked=True)
    return ended(made(phase=phase, settings=settings), cause)


@pytest.mark.parametrize(
    ("known", "runtime_model"),
    [
        (of_caller(Phase.FAILED, Cause.CRASHED), "org/was"),
        (of_caller(Phase.FAILED, Cause.START_TIMEOUT), "org/before"),
        (of_caller(Phase.READY, Cause.CRASHED), "org/before"),
        (None, "org/before"),
    ],
)
def test_who_names_nothing_gets_what_died_again_and_else_what_was_named_before(
    known: Server | None, runtime_model: str
) -> None:
    parts = Parts()
    parts.state.namings.add("m", "org/before")
    waiter = parts.callers.waiter_of_caller("m", asks(), known)
    assert (waiter.runtime_model, waiter.settings.runtime_model) == ("", runtime_model)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (Parts(), "org/before"),
        (Parts(LISTED), ""),
        (Parts({"other": DEFAULTS}, only_listed=True), ""),
    ],
)
def test_what_was_named_before_counts_for_models_that_the_configuration_leaves_open(
    parts: Parts, named: str
) -> None:
    parts.state.namings.add("m", "org/before")
    assert parts.callers.named_before("m") == named


# --- what is refused ------------------------------------------------------------------------


def test_a_model_whose_name_became_an_alias_is_served_no_longer() -> None:
    parts = Parts(LISTED, aliases={"old": "m"})
    assert not parts.callers.is_served(made("old"))
    assert parts.callers.is_served(made("m"))
    error = parts.callers.not_served("old")
    assert "is now a name of 'm'" in str(error)


def test_where_only_the_listed_are_served_a_runtime_model_has_to_be_listed_too() -> None:
    parts = Parts(LISTED, only_listed=True)
    as_listed = replace(DEFAULTS, runtime_model="org/m")
    as_other = replace(DEFAULTS, runtime_model="org/other", asked=True)
    assert parts.callers.is_served(made(settings=as_listed))
    assert not parts.callers.is_served(made(settings=as_other))
    assert "'org/other'" in str(parts.callers.not_served("m", "org/other"))
    assert "'n' is not in the catalogue" in str(parts.callers.not_served("n"))


def test_what_may_have_been_meant_is_listed_or_ran_before_and_only_listed_where_no_other_is() -> (
    None
):
    for only_listed in (False, True):
        parts = Parts({"qwen3-4b": DEFAULTS}, only_listed=only_listed)
        parts.state.namings.add("qwen3-8b", "org/q")
        parts.state.remember_past(made("qwen3-9b"))
        meant = set(parts.callers.similar("qwen3-1b"))
        assert meant == ({"qwen3-4b"} if only_listed else {"qwen3-4b", "qwen3-8b", "qwen3-9b"})


def test_all_who_want_a_model_that_is_listed_no_longer_are_told_once() -> None:
    parts = Parts(LISTED)
    parts.waits(1)
    parts.waits(7)
    parts.holds(7)
    parts.holds(8)
    parts.state.catalogue = Catalogue(DEFAULTS, only_listed=True)
    parts.callers.fail_unserved("m")
    assert refused(parts.taken()) == dict.fromkeys((1, 7, 8), "ModelUnknown")
    assert len(parts.state.waiters) == 0
    assert parts.state.holds.count("m") == 0


def test_all_who_want_a_model_whose_name_is_an_alias_now_are_told_which_it_stands_for() -> None:
    parts = Parts(LISTED)
    parts.waits(1)
    parts.holds(2)
    parts.state.catalogue = Catalogue(DEFAULTS, {"n": DEFAULTS}, aliases={"m": "n"})
    parts.callers.fail_unserved("m")
    assert refused(parts.taken()) == dict.fromkeys((1, 2), "ModelUnknown")
    assert len(parts.state.waiters) == 0


def test_only_those_are_refused_who_named_a_runtime_model_that_is_listed_no_longer() -> None:
    parts = Parts(LISTED)
    parts.waits(1)
    parts.waits(2, runtime_model="org/other")
    parts.waits(3, runtime_model="org/m")
    parts.holds(4, runtime_model="org/other")
    parts.state.catalogue = Catalogue(DEFAULTS, LISTED, only_listed=True)
    parts.callers.fail_unserved("m")
    assert refused(parts.taken()) == {2: "ModelUnknown", 4: "ModelUnknown"}
    assert [one.request_id for one in parts.state.waiters.of("m")] == [1, 3]


def test_nobody_is_refused_what_is_still_served() -> None:
    parts = Parts(LISTED, only_listed=True)
    parts.waits(1)
    parts.holds(2)
    parts.callers.fail_unserved("m")
    assert answers(parts.taken()) == {}
    assert len(parts.state.waiters) == 1


# --- what a reload makes of a server --------------------------------------------------------


def test_a_server_whose_process_had_to_be_another_is_outdated_and_keeps_its_settings() -> None:
    parts = Parts({"m": replace(DEFAULTS, config_hash="new", keep_alive=9.0)})
    server = made(settings=replace(DEFAULTS, runtime_model="m", config_hash="old"))
    assert parts.callers.with_present_settings(server) == replace(server, outdated=True)
    parts.state.catalogue = Catalogue(DEFAULTS, {"m": replace(DEFAULTS, config_hash="old")})
    assert parts.callers.with_present_settings(replace(server, outdated=True)) == server


def test_limits_count_at_once_but_a_keep_alive_that_a_caller_chose_stays() -> None:
    parts = Parts(defaults=replace(DEFAULTS, keep_alive=9.0, pinned=True))
    fresh = parts.callers.with_present_settings(made())
    assert (fresh.keep_alive, fresh.settings.pinned, fresh.outdated) == (9.0, True, False)
    assert parts.callers.with_present_settings(made(keep_alive=77.0)).keep_alive == 77.0


def test_what_is_no_longer_served_is_outdated_and_what_is_beside_stays_as_it_is() -> None:
    parts = Parts(only_listed=True)
    assert parts.callers.with_present_settings(made()).outdated
    beside = made(role=Role.SUPERSEDED)
    assert parts.callers.with_present_settings(beside) is beside


# --- through the machine ---------------------------------------------------------------------


def test_what_lost_its_listener_is_repaired_as_what_was_named_while_it_drains() -> None:
    limits = Limits()
    catalogue = Catalogue(POOL_DEFAULTS, {"a": Settings(runtime_model="its own")})
    ledger = Ledger(lambda: Machine(catalogue, limits), limits)
    ledger.handle(EnsureRequested(1, "a", "named"))
    drive(ledger)
    ledger.handle(LOST)
    ledger.handle(EnsureRequested(2, "a"))
    assert aside(ledger).phase is Phase.STOPPING
    assert shown(ledger, "a").settings.runtime_model == "named"
