"""The runs of a model, as values."""

from dataclasses import replace

from pool_service.core import measuring
from pool_service.core.runs import RUNS_KEPT, Origin, Runs
from pool_service.core.server import Cause, Exit, Phase, Server
from pool_service.core.types import Diagnosis, ExitReport, Settings

SETTINGS = Settings(runtime_model="org/m")


def server(phase: Phase, generation: int) -> Server:
    return Server("m", SETTINGS, phase, generation, 0.0, 0.0, 300.0)


def adopted(phase: Phase, generation: int) -> Server:
    return replace(server(phase, generation), spawned_at=1.0, ready_at=3.0)


def test_runs_are_told_by_generation_in_whatever_order_they_are_taken_over() -> None:
    runs = Runs()
    for generation in (5, 4, 6):
        runs.note(server(Phase.READY, generation), 1.0)
    assert [one.generation for one in runs.of("m")] == [4, 5, 6]


def test_the_oldest_generations_are_dropped_first() -> None:
    runs = Runs()
    for generation in (2, 1, *range(3, RUNS_KEPT + 2)):
        runs.note(server(Phase.READY, generation), 1.0)
    assert [one.generation for one in runs.of("m")] == list(range(2, RUNS_KEPT + 2))


def test_the_time_of_a_suspend_is_no_part_of_a_load() -> None:
    runs = Runs()
    loaded = replace(server(Phase.READY, 1), spawned_at=10.0, ready_at=100.0, suspended_s=80.0)
    runs.note(loaded, 100.0)
    (run,) = runs.of("m")
    assert (run.spawned_at, run.ready_at, run.load_s) == (10.0, 100.0, 10.0)


def test_a_load_whose_suspend_rounds_to_more_than_all_of_it_took_no_time() -> None:
    spawned_at, ready_at = 3997.359859611927, 7597.359859611926
    assert ready_at - spawned_at < 3600.0
    loaded = replace(adopted(Phase.READY, 1), spawned_at=spawned_at, ready_at=ready_at)
    assert measuring.load_seconds(replace(loaded, suspended_s=3600.0), 5.0) == 0.0


def test_of_what_an_earlier_service_began_no_time_of_this_one_is_told() -> None:
    report = ExitReport(0, None, Diagnosis.CRASHED, "it ended")
    end = Exit(4, Cause.EVICTED, report, 5.0)
    runs = Runs()
    runs.note(server(Phase.PREPARING, 1), 100.0, is_recorded=True)
    runs.note(adopted(Phase.STOPPING, 2), 100.0, is_recorded=True)
    runs.note(adopted(Phase.CLEANING_UP, 3), 100.0, is_recorded=True)
    runs.note(replace(adopted(Phase.CLEANING_UP, 4), last_exit=end), 100.0, is_recorded=True)
    preparing, stopping, cleaned, told = runs.of("m")
    assert (preparing.admitted_at, stopping.stopped_at, cleaned.ended_at) == (None, None, None)
    assert (told.ended_at, told.exit) == (5.0, end)
    assert {one.origin for one in (stopping, cleaned, told)} == {Origin.ADOPTED}
    runs.note(adopted(Phase.CLEANING_UP, 2), 101.0)
    assert runs.of("m")[1].ended_at == 101.0, "that was seen"


def test_what_a_server_wrote_is_not_kept_with_its_run() -> None:
    runs = Runs()
    report = ExitReport(1, None, Diagnosis.CRASHED, "it ended", ("a prompt",))
    ended = replace(server(Phase.CLEANING_UP, 1), last_exit=Exit(1, Cause.CRASHED, report, 2.0))
    runs.note(ended, 2.0)
    (run,) = runs.of("m")
    assert run.exit is not None
    assert (run.exit.report.message, run.exit.report.last_lines) == ("it ended", ())
