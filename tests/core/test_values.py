"""The parts of the core, by values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core import failures
from pool_service.core import lifecycle as life
from pool_service.core.catalogue import Catalogue
from pool_service.core.deadlines import Deadlines
from pool_service.core.errors import (
    ModelRejected,
    RuntimeUnavailable,
    ServerInUse,
    StartFailed,
)
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.table import ServerTable
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Settings
from pool_service.core.waiters import Waiter, Waiters
from tests.core.invariants import deadline

SETTINGS = Settings(runtime_model="org/m")


def server(model: str = "m", phase: Phase = Phase.QUEUED) -> Server:
    return Server(model, SETTINGS, phase, 1, 0.0, 0.0, 300.0)


# --- catalogue ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "asked", "loaded"),
    [
        ("org/m", "", "org/m"),
        ("vllm-mlx/qwen", "", "qwen"),
        ("vllm-mlx/vllm-mlx/qwen", "", "vllm-mlx/qwen"),
        ("known", "", "org/known"),
        ("known", "other", "other"),
        ("org/m", "other", "other"),
        ("half", "", "half"),
    ],
)
def test_what_the_runtime_loads_is_the_callers_word_then_the_configurations_then_the_name(
    model: str, asked: str, loaded: str
) -> None:
    models = {"known": Settings("org/known"), "half": Settings("", keep_alive=1.0)}
    catalogue = Catalogue(Settings("", keep_alive=7.0), models)
    assert catalogue.settings_for(model, asked).runtime_model == loaded


def test_a_models_own_settings_replace_the_defaults_whole() -> None:
    catalogue = Catalogue(Settings("", keep_alive=7.0), {"m": Settings("", keep_alive=1.0)})
    assert catalogue.settings_for("m").keep_alive == 1.0
    assert catalogue.settings_for("n").keep_alive == 7.0


A, B, C = (ServerId(model, 1) for model in "abc")


# --- deadlines ----------------------------------------------------------------------------


def test_the_earliest_deadline_is_next_and_each_is_due_once() -> None:
    deadlines = Deadlines()
    deadlines.set(B, 2.0)
    deadlines.set(A, 1.0)
    deadlines.set(C, 3.0)
    assert deadlines.next() == 1.0
    assert deadlines.pop_due(2.0) == [A, B]
    assert deadlines.pop_due(2.0) == []
    assert deadlines.next() == 3.0


def test_hasten_only_makes_earlier() -> None:
    deadlines = Deadlines()
    deadlines.set(A, 5.0)
    deadlines.hasten(A, 9.0)
    assert deadlines.next() == 5.0
    deadlines.hasten(A, 2.0)
    assert deadlines.next() == 2.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "hasten", "pop"]),
            st.sampled_from([A, B, C]),
            st.sampled_from([1.0, 2.0, 3.0, 4.0, FOREVER]),
        ),
        max_size=200,
    )
)
def test_deadlines_are_a_map_with_a_minimum(steps: list[tuple[str, ServerId, float]]) -> None:
    deadlines = Deadlines()
    model: dict[ServerId, float] = {}
    for what, name, when in steps:
        if what == "set":
            deadlines.set(name, when)
            model[name] = when
        elif what == "hasten":
            deadlines.hasten(name, when)
            model[name] = min(when, model.get(name, FOREVER))
        else:
            now = min(when, 4.0)
            due = sorted((at, key) for key, at in model.items() if at <= now)
            assert deadlines.pop_due(now) == [key for _, key in due]
            for _, key in due:
                del model[key]
        assert deadlines.next() == min(model.values(), default=FOREVER)


def test_deadlines_that_move_for_ever_take_no_more_room() -> None:
    deadlines = Deadlines()
    for n in range(10_000):
        deadlines.set(A, float(n + 1))
    assert len(deadlines._heap) < 50


# --- the table of servers -----------------------------------------------------------------


def test_pages_are_in_the_order_of_the_models_utf8() -> None:
    table = ServerTable()
    models = ["b", "a/b", "a", "Z", "é", "\U0001f600", "\uffff", "a b"]
    for model in models:
        table.put(server(model))
    expected = sorted(models, key=str.encode)
    assert [record.server.model for record in table] == expected
    assert [s.model for s in table.page(ServerId(expected[2], 1), 3)] == expected[3:6]
    assert table.page(ServerId(expected[-1], 1), 3) == []


def test_a_page_goes_on_after_a_model_that_is_gone() -> None:
    table = ServerTable()
    for model in "ace":
        table.put(server(model))
    table.remove(ServerId("c", 1))
    assert [s.model for s in table.page(ServerId("c", 1), 5)] == ["e"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([*Phase, None]))))
def test_counts_equal_the_servers(steps: list[tuple[str, Phase | None]]) -> None:
    table = ServerTable()
    for model, phase in steps:
        if phase is not None:
            table.put(server(model, phase))
        elif table.find(ServerId(model, 1)):
            table.remove(ServerId(model, 1))
    for phase in Phase:
        assert table.count({phase}) == sum(record.server.phase is phase for record in table)
    assert table.count(set(Phase)) == len(table)


# --- waiting ------------------------------------------------------------------------------


def test_waiters_are_kept_in_the_order_in_which_they_came() -> None:
    waiting = Waiters()
    for request_id in (3, 1, 2):
        waiting.add("m", Waiter(request_id, "", SETTINGS, None, starts=False))
    assert waiting.leave(3) == "m"
    assert waiting.leave(99) is None
    first = waiting.first("m")
    assert first is not None
    assert first.request_id == 1
    assert len(waiting) == 2
    assert [wait.request_id for wait in waiting.take("m")] == [1, 2]
    assert (len(waiting), waiting.first("m"), waiting.take("m")) == (0, None, [])


# --- lifecycle ----------------------------------------------------------------------------


def test_the_signals_come_in_their_order_and_the_last_again() -> None:
    sent = []
    stopping = server(phase=Phase.STOPPING)
    for _ in range(4):
        stop = life.next_signal(stopping)
        stopping = life.signalled(stopping, stop, 0.0)
        sent.append(stop.value)
    assert sent == ["SIGTERM", "SIGINT", "SIGKILL", "SIGKILL"]


def test_a_server_expires_after_the_longer_of_keep_alive_and_residency() -> None:
    short = life.used(server(phase=Phase.READY), 0.0, 100.0)
    assert deadline(short) == 100.0 + SETTINGS.grace_period
    assert deadline(life.used(short, 50.0, 100.0)) == 150.0
    assert deadline(life.used(short, FOREVER, 100.0)) == FOREVER
    assert life.used(short, None, 200.0).keep_alive == 0.0


def test_a_failed_server_keeps_how_it_ended_and_nothing_of_its_process() -> None:
    report = ExitReport(1, None, Diagnosis.CRASHED, "it died")
    dead = life.exited(server(phase=Phase.READY), report, 5.0)
    failed = life.failed(dead, "it died", 6.0, 600.0)
    assert (failed.identity, failed.plan, failed.endpoint) == (None, None, "")
    assert failed.last_exit is not None
    assert (failed.last_exit.report, failed.last_exit.at) == (report, 5.0)
    assert deadline(failed) == 606.0


def test_the_next_generation_keeps_the_count_and_the_last_exit_only() -> None:
    report = ExitReport(1, None, Diagnosis.CRASHED, "it died")
    failed = life.failed(life.exited(server(), report, 5.0), "it died", 6.0, 600.0)
    again = life.queued(failed, ServerId("m", 2), Settings("org/other", keep_alive=1.0), 9.0)
    assert (again.generation, again.last_exit) == (2, failed.last_exit)
    assert (again.detail, again.log_path, again.spawned_at) == ("", "", None)
    assert (again.settings.runtime_model, again.keep_alive) == ("org/other", 1.0)
    assert (again.created_at, again.stop_cause) == (9.0, None)


# --- failures -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("diagnosis", "error"),
    [
        (Diagnosis.CRASHED, StartFailed),
        (Diagnosis.PORT_TAKEN, StartFailed),
        (Diagnosis.MODEL_REJECTED, ModelRejected),
        (Diagnosis.RUNTIME_UNUSABLE, RuntimeUnavailable),
    ],
)
def test_the_diagnosis_of_an_exit_says_what_the_caller_can_do(
    diagnosis: Diagnosis, error: type[Exception]
) -> None:
    told = failures.start_failure(server(), ExitReport(1, None, diagnosis, "the cause", ("x",)))
    assert type(told) is error
    assert told.model == "m"
    assert "the cause" in str(told)


@pytest.mark.parametrize(
    ("requests", "holders", "said"),
    [
        (2, (), "has 2 request(s) in flight"),
        (None, (), "cannot tell"),
        (0, ("b", "a", ""), "is held by 3 (a, b), so"),
        (0, ("",), "is held by 1, so"),
        (1, ("a",), "is held by 1 (a) and has 1 request(s)"),
    ],
)
def test_a_refused_eviction_says_how_the_server_is_used(
    requests: int | None, holders: tuple[str, ...], said: str
) -> None:
    told = failures.in_use("m", requests, holders)
    assert isinstance(told, ServerInUse)
    assert said in str(told)
