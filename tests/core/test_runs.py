"""The runs of a model, as values."""

from dataclasses import replace

from pool_service.core.runs import RUNS_KEPT, Runs
from pool_service.core.server import Cause, Exit, Phase, Server
from pool_service.core.types import Diagnosis, ExitReport, Settings

SETTINGS = Settings(runtime_model="org/m")


def server(phase: Phase, generation: int) -> Server:
    return Server("m", SETTINGS, phase, generation, 0.0, 0.0, 300.0)


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


def test_what_a_server_wrote_is_not_kept_with_its_run() -> None:
    runs = Runs()
    report = ExitReport(1, None, Diagnosis.CRASHED, "it ended", ("a prompt",))
    ended = replace(server(Phase.CLEANING_UP, 1), last_exit=Exit(1, Cause.CRASHED, report, 2.0))
    runs.note(ended, 2.0)
    (run,) = runs.of("m")
    assert run.exit is not None
    assert (run.exit.report.message, run.exit.report.last_lines) == ("it ended", ())
