"""Whether a READY server is alive, sick or wedged, judged by its pulse."""

from dataclasses import replace

import pytest

from pool_service.core.liveness import Liveness, after_probe
from pool_service.core.types import ProbeResult

SILENT = ProbeResult(answered=False, progress=(3.0, 100.0))


BUSY = replace(SILENT, in_flight=True)


def test_silence_and_standstill_are_counted_from_the_second_look_on() -> None:
    seen = after_probe(None, SILENT, 0.0, 40.0)
    for look in range(1, 5):
        assert seen.missed == look - 1
        seen = after_probe(seen, SILENT, 15.0 * look, 40.0)
    assert seen == Liveness(60.0, SILENT.progress, 4)


@pytest.mark.parametrize(
    "sign_of_life",
    [
        ProbeResult(answered=True, progress=()),
        ProbeResult(answered=True, progress=SILENT.progress),
        # It works, though nobody waits for that any more.
        replace(SILENT, progress=(3.75, 100.0)),
        replace(BUSY, progress=(3.01, 100.0)),
        replace(BUSY, progress=(3.0, 101.0)),
    ],
)
def test_an_answer_or_work_or_with_requests_any_movement_begins_the_count_anew(
    sign_of_life: ProbeResult,
) -> None:
    before = Liveness(0.0, SILENT.progress, 3)
    assert after_probe(before, sign_of_life, 15.0, 40.0).missed == 0


@pytest.mark.parametrize("progress", [(3.0, 101.0), (3.01, 100.0), (3.7, 200.0)])
def test_of_one_that_is_silent_and_has_no_requests_a_stir_is_no_sign_of_life(
    progress: tuple[float, float],
) -> None:
    before = Liveness(0.0, SILENT.progress, 3)
    assert after_probe(before, replace(SILENT, progress=progress), 15.0, 40.0).missed == 4


@pytest.mark.parametrize(("at", "missed"), [(40.0, 4), (40.1, 0), (90_000.0, 0)])
def test_a_gap_in_our_own_looks_begins_the_count_anew(at: float, missed: int) -> None:
    assert after_probe(Liveness(0.0, SILENT.progress, 3), SILENT, at, 40.0).missed == missed
