"""A server's process dies, or the runtime refuses to start one."""

import json
import os
import shutil
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import EnsureResult, ModelRejected, PoolError, StartFailed
from tests.faults.conftest import Service, Start
from tests.faults.invariants import pool_processes
from tests.faults.table import Recovery
from tests.service.test_ensure import answer_ok

KILLS = 100


def starting(service: Service, model: str, after: int = 0) -> pb.Server:
    """The model's server as soon as a process of it loads."""
    return service.invariants.wait(
        lambda one: (
            one.server.model == model
            and one.server.state == pb.SERVER_STATE_STARTING
            and one.server.pid > 0
        ),
        after,
    ).server


@pytest.mark.fault("killed while loading, several callers waiting")
def test_the_callers_of_a_start_that_is_killed_stay_and_get_its_next_process(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real()
    with ThreadPoolExecutor(3) as callers:
        calls = [callers.submit(service.pool.ensure, "m", runtime_model=tiny) for _ in range(3)]
        first = starting(service, "m")
        os.kill(first.pid, signal.SIGKILL)
        with recovered.measured():
            answers = [call.result() for call in calls]
    assert {answer.server.generation for answer in answers} == {first.generation + 1}
    service.invariants.wait_for("m", pb.SERVER_STATE_BACKING_OFF)


@pytest.mark.fault("killed while serving; port taken between crash and restart")
def test_a_server_killed_while_it_serves_comes_again_on_a_port_of_its_own(
    real: Start, tiny: str, recovered: Recovery
) -> None:
    service = real()
    first = service.pool.ensure("m", runtime_model=tiny).server
    os.kill(first.pid, signal.SIGKILL)
    with recovered.measured():
        failed = service.invariants.wait_for("m", pb.SERVER_STATE_FAILED).server
        assert failed.last_exit.signal == signal.SIGKILL
        assert failed.last_exit.cause == pb.EXIT_CAUSE_CRASHED
        with socket.create_server(("127.0.0.1", urlsplit(first.endpoint).port or 0)) as stranger:
            threading.Thread(target=answer_ok, args=(stranger,), daemon=True).start()
            again = service.pool.ensure("m", runtime_model=tiny).server
    assert again.generation == first.generation + 1
    assert again.endpoint != first.endpoint


@pytest.mark.fault("exits 0 without being asked")
def test_an_exit_with_0_that_nobody_asked_for_is_a_crash(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service, quits = fake(), tmp_path / "quits"
    first = service.pool.ensure("quits", runtime_model=f"x?exit_when={quits}").server
    quits.touch()
    failed = service.invariants.wait_for("quits", pb.SERVER_STATE_FAILED).server
    assert failed.last_exit.cause == pb.EXIT_CAUSE_CRASHED
    assert failed.last_exit.code == 0
    quits.unlink()
    with recovered.measured():
        again = service.pool.ensure("quits").server
    assert again.generation == first.generation + 1


@pytest.mark.fault("killed at every start")
def test_a_server_killed_at_every_start_is_backed_off_longer_then_left_alone_until_evicted(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    service = fake("[service]\nbackoff_initial = 0.2\ncrash_limit = 5\n")
    loaded = tmp_path / "loaded"
    pauses, failure = kill_until_told(service, "loop", f"x?load_until={loaded}", limit=5)
    assert pauses[-1] > pauses[0]
    assert failure.reason == "CRASH_LOOP"
    assert failure.retry_after is not None
    service.invariants.wait_for("loop", pb.SERVER_STATE_FAILED)
    before = service.invariants.revision
    with pytest.raises(PoolError) as again:
        service.pool.ensure("loop", runtime_model=f"x?load_until={loaded}")
    assert again.value.reason == "CRASH_LOOP"
    assert service.invariants.revision == before
    loaded.touch()
    with recovered.measured():
        service.pool.evict("loop")
        service.pool.ensure("loop", runtime_model=f"x?load_until={loaded}")


def kill_until_told(
    service: Service, model: str, runtime_model: str, limit: int
) -> tuple[list[float], PoolError]:
    """Kill each process of a start; how long the pauses were, and what its caller was told.

    The pauses are by the service's own times: its events may come late.
    """
    pauses = []
    with ThreadPoolExecutor(1) as callers:
        call: Future[EnsureResult] = callers.submit(
            service.pool.ensure, model, runtime_model=runtime_model
        )
        revision = 0
        for death in range(1, limit + 1):
            started = starting(service, model, revision)
            if death > 1:
                pauses.append(seconds(started.create_time) - seconds(started.last_exit.time))
            os.kill(started.pid, signal.SIGKILL)
            if death < limit:
                waits = service.invariants.wait_for(model, pb.SERVER_STATE_BACKING_OFF, revision)
                revision = waits.revision
        with pytest.raises(PoolError) as raised:
            call.result()
    return pauses, raised.value


def seconds(time: Timestamp) -> float:
    return time.ToMicroseconds() / 1e6


@pytest.mark.fault("dies by itself at every start")
def test_a_server_that_dies_at_every_start_is_reported_with_its_last_lines_then_left_alone(
    fake: Start, recovered: Recovery
) -> None:
    service = fake("[service]\nfailure_memory = 0\ncrash_limit = 3\n")
    for _ in range(2):
        with pytest.raises(StartFailed) as raised:
            service.pool.ensure("dies", runtime_model="x?die=7&say=the+dog+ate+it")
        assert raised.value.last_lines[-1] == "the dog ate it"
        assert raised.value.retry_after is not None
    for _ in range(3):
        with pytest.raises(PoolError):
            service.pool.ensure("dies", runtime_model="x?die=7&say=the+dog+ate+it")
    with pytest.raises(PoolError) as looped:
        service.pool.ensure("dies", runtime_model="x?die=7&say=the+dog+ate+it")
    assert looped.value.reason == "CRASH_LOOP"
    assert looped.value.last_lines[-1] == "the dog ate it"
    with recovered.measured():
        service.pool.evict("dies")
        assert service.pool.ensure("dies", runtime_model="x").server.generation == 4


@pytest.mark.promise(7)
@pytest.mark.fault("model refused: no such model, bad architecture, corrupt weights")
def test_a_refused_model_is_reported_with_its_reason_and_not_tried_again(
    real: Start, tiny: str, tmp_path: Path
) -> None:
    service = real("[service]\nfailure_memory = 60\n")
    strange, corrupt = tmp_path / "strange", tmp_path / "corrupt"
    shutil.copytree(tiny, strange)
    config = json.loads((strange / "config.json").read_text())
    (strange / "config.json").write_text(json.dumps({**config, "model_type": "perceptron"}))
    shutil.copytree(tiny, corrupt)
    next(corrupt.glob("*.safetensors")).write_bytes(b"no weights at all")
    wanted = {
        "/no-such-model": "there is no such directory",
        str(strange): "perceptron",
        str(corrupt): "weights are damaged",
    }
    with ThreadPoolExecutor(3) as callers:
        list(callers.map(lambda name: refused(service, name, wanted[name]), wanted))
    for name in (str(strange), str(corrupt)):
        # Its callers are told before what its process may have left is looked for; what was
        # refused before it had a process leaves no server.
        service.invariants.wait_for(model_of(name), pb.SERVER_STATE_FAILED)
    before = service.invariants.revision
    for name, words in wanted.items():
        refused(service, name, words)
    assert service.invariants.revision == before


def refused(service: Service, runtime_model: str, words: str) -> None:
    with pytest.raises(ModelRejected, match=words) as raised:
        service.pool.ensure(model_of(runtime_model), runtime_model=runtime_model)
    assert "Traceback" not in raised.value.message


def model_of(runtime_model: str) -> str:
    return f"refused/{Path(runtime_model).name}"


@pytest.mark.long
@pytest.mark.fault("kill -9 of a server, 100 times: until its event in Watch")
def test_the_end_of_a_server_is_noticed_by_its_exit_and_not_by_a_poll(
    fake: Start, recovered: Recovery
) -> None:
    """Nothing is looked at within an hour, so only the exit itself can tell."""
    service = fake(
        "[service]\nprobe_interval = 3600\nbackoff_initial = 0\ncrash_limit = 10000\n"
        "[defaults]\nkeep_alive = 'forever'\n"
    )
    for _ in range(KILLS):
        server = service.pool.ensure("victim", runtime_model="x").server
        revision = service.invariants.revision
        killed_at = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        seen = service.invariants.wait(
            lambda one: one.server.state != pb.SERVER_STATE_READY, revision
        )
        recovered.note(seen.at - killed_at)
    assert not pool_processes(service.state_dir)
