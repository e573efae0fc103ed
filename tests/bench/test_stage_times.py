import time
from pathlib import Path

import pytest

from tools.bench import stage_times


@pytest.mark.skipif(not stage_times.IS_POSSIBLE, reason="only Linux has inotify")
@pytest.mark.parametrize("engine", [0, 1])
def test_each_stage_is_the_time_between_what_the_kernel_saw(tmp_path: Path, engine: int) -> None:
    model, logs = tmp_path / "model", tmp_path / "logs"
    model.mkdir()
    logs.mkdir()
    weights = model / stage_times.WEIGHTS
    weights.write_bytes(b"weights")
    (logs / "1.log").write_text("Uvicorn running on an earlier port\n")
    began = time.time()
    with stage_times.Stamps(model, logs) as stamps:
        spawned = time.time()
        (model / "config.json").write_text("{}")
        weights.read_bytes()
        for lines in stage_times.LINES.values():
            with (logs / "2.log").open("a") as log:
                log.write(f"{lines[engine % len(lines)]}\n")
    answered = time.time()
    found = stamps.stages(spawned, answered)
    assert tuple(found) == stage_times.STAGES
    assert all(seconds >= 0 for seconds in found.values())
    assert sum(found.values()) <= answered - began


@pytest.mark.skipif(not stage_times.IS_POSSIBLE, reason="only Linux has inotify")
def test_a_log_of_an_earlier_start_says_nothing(tmp_path: Path) -> None:
    log = tmp_path / "1.log"
    log.write_text("Uvicorn running on an earlier port\n")
    with stage_times.Stamps(tmp_path, tmp_path) as stamps, log.open("a") as more:
        more.write("INFO: Shutting down\n")
    with pytest.raises(KeyError):
        stamps.stages(0.0, 0.0)
