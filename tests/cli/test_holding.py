"""Holding a model from the command line, alone and for the length of a command."""

import json
import os
import signal
import subprocess
import sys
from typing import IO

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Gate, Refusal, Script, Stay, held, starting

GONE = Refusal(StatusCode.ABORTED, "it was evicted", "EVICTED")
MOVED = held(endpoint="http://127.0.0.1:2", generation=2)
PYTHON = [sys.executable, "-c"]
WAITS = (
    "import signal, sys\n"
    "codes = {signal.SIGTERM: 9, signal.SIGINT: 3}\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, codes)\n"
    "print('up', flush=True)\n"
    "sys.exit(codes[signal.sigwait(codes)])\n"
)


@pytest.fixture
def service(service: Script) -> Script:
    """One that can be reached."""
    service.answer("List", pb.ListResponse())
    return service


def line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def test_hold_asks_for_all_that_was_said(run: Run, service: Script) -> None:
    service.answer("Hold", GONE)
    said = ["--runtime-model", "r", "--keep-alive", "9", "--no-download", "--holder", "me"]
    result = run("hold", "m", *said)
    assert (result.exit_code, result.output) == (6, "pool-service: it was evicted\n")
    assert service.asked["Hold"] == [
        pb.HoldRequest(
            model="m",
            runtime_model="r",
            keep_alive=Duration(seconds=9),
            download=False,
            holder="me",
        )
    ]


def test_who_gives_no_label_is_known_by_the_process(run: Run, service: Script) -> None:
    service.answer("Hold", GONE)
    run("hold", "m")
    assert service.asked["Hold"] == [pb.HoldRequest(model="m", holder=f"pid {os.getpid()}")]


def test_each_endpoint_is_printed_once_until_ctrl_c(service: Script) -> None:
    same, other = Gate(), Gate()
    service.answer("Hold", held(), same, held(holds=2), other, MOVED, Stay())
    with running(started(service, "hold", "m")) as process:
        assert line(process.stdout) == "http://127.0.0.1:49321\n"
        same.open()
        other.open()
        assert line(process.stdout) == "http://127.0.0.1:2\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")
        assert process.returncode == 130
    assert service.closed("Hold")


def test_in_a_log_a_start_has_a_line_for_each_reason_to_wait(service: Script) -> None:
    further, loaded = Gate(), Gate()
    queued = pb.Server(
        model="m", state=pb.SERVER_STATE_QUEUED, queue_position=2, detail="waits for b to go"
    )
    service.answer(
        "Hold",
        pb.HoldResponse(server=queued),
        further,
        starting(progress=0.1),
        starting(progress=0.2),
        loaded,
        held(),
        Stay(),
    )
    with running(started(service, "hold", "m")) as process:
        assert line(process.stderr) == "m: queued #2: waits for b to go\n"
        further.open()
        assert line(process.stderr) in {"m: starting 10%\n", "m: starting 20%\n"}
        loaded.open()
        assert line(process.stdout) == "http://127.0.0.1:49321\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20) == ("", "")


def test_on_a_terminal_a_start_is_a_line_that_changes(service: Script, terminal: Terminal) -> None:
    loaded = Gate()
    service.answer("Hold", starting(progress=0.43, detail="loads [x]"), loaded, held(), Stay())
    with running(started(service, "hold", "m", stderr=terminal.writer)) as process:
        terminal.wait_for("m: starting 43%: loads [x]")
        loaded.open()
        terminal.wait_for("m: ready (generation 1, pid 4711); requests must name the model served-")
        assert line(process.stdout) == "http://127.0.0.1:49321\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert "Traceback" not in terminal.seen


def test_json_is_an_object_for_each_state(service: Script) -> None:
    loaded = Gate()
    service.answer("Hold", starting(progress=0.5), loaded, held(), Stay())
    with running(started(service, "hold", "m", "--json")) as process:
        first = json.loads(line(process.stdout))
        assert (first["state"], first["progress"]) == ("STARTING", 0.5)
        loaded.open()
        assert json.loads(line(process.stdout))["endpoint"] == "http://127.0.0.1:49321"


def test_a_command_finds_the_endpoint_and_ends_the_hold_with_its_code(service: Script) -> None:
    ready = held()
    ready.api_key = "psk_x"
    service.answer("Hold", starting(), ready, Stay())
    code = (
        "import os, sys\n"
        "print(*(os.environ[f'POOL_{n}'] for n in ('ENDPOINT', 'MODEL', 'API_KEY')), end=' ')\n"
        "print(sys.argv[1:])\n"
        "print(sorted(name for name in os.environ if name.startswith('GRPC_')))\n"
        "sys.exit(7)\n"
    )
    with running(started(service, "hold", "m", "--", *PYTHON, code, "--json")) as process:
        output, _ = process.communicate(timeout=20)
    given = sorted(name for name in os.environ if name.startswith("GRPC_"))
    assert output == f"http://127.0.0.1:49321 served-m psk_x ['--json']\n{given}\n"
    assert process.returncode == 7
    assert service.closed("Hold")


def test_a_command_that_a_signal_ends_is_reported_as_a_shell_does(service: Script) -> None:
    service.answer("Hold", held(), Stay())
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with running(started(service, "hold", "m", "--", *PYTHON, code)) as process:
        assert process.wait(20) == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("number", "whole_group", "exit_code"),
    [(signal.SIGTERM, False, 9), (signal.SIGINT, True, 3)],
    ids=["SIGTERM", "Ctrl-C"],
)
def test_the_command_decides_what_a_signal_means(
    service: Script, number: signal.Signals, whole_group: bool, exit_code: int
) -> None:
    service.answer("Hold", held(), Stay())
    with running(started(service, "hold", "m", "--", *PYTHON, WAITS)) as process:
        assert line(process.stdout) == "up\n"
        if whole_group:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        assert process.wait(20) == exit_code
    assert service.closed("Hold")


def told_while_it_runs(service: Script, gate: Gate) -> tuple[str, subprocess.Popen[str]]:
    with running(started(service, "hold", "m", "--", *PYTHON, WAITS)) as process:
        assert line(process.stdout) == "up\n"
        gate.open()
        told = line(process.stderr)
        process.terminate()
        process.wait(20)
    return told, process


def test_while_a_command_runs_another_endpoint_is_reported(service: Script) -> None:
    gate = Gate()
    service.answer("Hold", held(), gate, MOVED, Stay())
    told, process = told_while_it_runs(service, gate)
    assert (told, process.returncode) == ("m: is at http://127.0.0.1:2 now\n", 9)


def test_while_a_command_runs_another_key_is_reported_and_not_shown(service: Script) -> None:
    gate, moved = Gate(), pb.HoldResponse()
    moved.CopyFrom(MOVED)
    moved.api_key = "psk_x"
    service.answer("Hold", held(), gate, moved, Stay())
    told, _ = told_while_it_runs(service, gate)
    assert told == "m: is at http://127.0.0.1:2 now, with another key (ensure --env)\n"


def test_a_command_goes_on_though_its_hold_has_ended(service: Script) -> None:
    gate = Gate()
    service.answer("Hold", held(), gate, GONE)
    told, process = told_while_it_runs(service, gate)
    assert told == "pool-service: the hold has ended: it was evicted\n"
    assert process.returncode == 9


def test_a_command_does_not_run_where_the_model_cannot(run: Run, service: Script) -> None:
    refused = Refusal(StatusCode.FAILED_PRECONDITION, "no such model", "MODEL_REJECTED")
    service.answer("Hold", refused)
    result = run("hold", "m", "--", *PYTHON, "raise SystemExit(0)")
    assert (result.exit_code, result.output) == (5, "pool-service: no such model\n")
