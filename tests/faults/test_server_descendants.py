"""Processes that a server leaves behind, and other programs that take its port."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service_client import RuntimeUnavailable, StartFailed
from tests.faults.asking import complete
from tests.faults.conftest import Start
from tests.faults.invariants import pool_processes, runs
from tests.faults.table import Recovery
from tests.faults.test_server_dies import starting
from tests.service.conftest import FAKE_RUNTIME
from tests.service.test_ensure import answer_ok

PLAIN_RUNTIME = FAKE_RUNTIME.replace('kind = "vllm-mlx"', 'kind = "plain"')
"""The same program, told its port by the pool."""

KINDS = {
    "a grandchild in its group": "child=group",
    "a grandchild that left the group and ignores SIGTERM": "child=setsid&child_ignore=term",
    "leader dead while a grandchild keeps the port": "child=group&child_port=1",
}


@pytest.mark.parametrize(
    "flags",
    [pytest.param(f, id=i, marks=pytest.mark.fault(i)) for i, f in KINDS.items()],
)
def test_all_that_a_dead_server_left_is_gone_before_the_next_start(
    fake: Start, recovered: Recovery, flags: str
) -> None:
    service = fake()
    first = service.pool.ensure("m", runtime_model=f"x?{flags}").server
    left = [psutil.Process(pid) for pid in pool_processes(service.state_dir) if pid != first.pid]
    assert left
    before = service.invariants.revision
    os.kill(first.pid, signal.SIGKILL)
    stopping = service.invariants.wait_for("m", pb.SERVER_STATE_STOPPING, before)
    with ThreadPoolExecutor(1) as callers, recovered.measured():
        call = callers.submit(service.pool.ensure, "m", runtime_model=f"x?{flags}")
        starting(service, "m", stopping.revision)
        assert not any(map(runs, left))
        call.result()


def port_told(process: psutil.Process) -> int:
    """The port in its command line, which Linux shows as empty until exec is nearly through."""
    while "--port" not in (command := process.cmdline()):
        time.sleep(0.001)
    return int(command[command.index("--port") + 1])


@pytest.mark.fault("port taken by another while loading")
def test_a_start_that_lost_its_port_goes_on_with_another(
    fake: Start, recovered: Recovery, tmp_path: Path
) -> None:
    """The thief answers 200 to everything, while the server still loads."""
    service = fake(runtime=PLAIN_RUNTIME)
    loaded = tmp_path / "loaded"
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(service.pool.ensure, "m", runtime_model=f"x?load_until={loaded}")
        port = port_told(psutil.Process(starting(service, "m").pid))
        with socket.create_server(("127.0.0.1", port)) as thief:
            threading.Thread(target=answer_ok, args=(thief,), daemon=True).start()
            with recovered.measured():
                loaded.touch()
                server = call.result().server
    assert urlsplit(server.endpoint).port != port
    assert complete(server, tokens=2) == 2


@pytest.mark.fault("port taken at spawn")
def test_a_strangers_answer_never_makes_a_server_ready(fake: Start, tmp_path: Path) -> None:
    """The program insists on a port that somebody else has, who answers 200 to everything."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        threading.Thread(target=answer_ok, args=(stranger,), daemon=True).start()
        service = fake(runtime=PLAIN_RUNTIME.replace("{port}", str(port)))
        with pytest.raises(StartFailed, match="address already in use"):
            service.pool.ensure("m", runtime_model="x?load=0.3")
    assert pb.SERVER_STATE_READY not in service.invariants.history("m")


@pytest.mark.fault("program missing, not executable, not a program")
def test_a_program_that_cannot_run_is_reported_at_once_without_a_backoff(
    fake: Start, tmp_path: Path
) -> None:
    programs = {
        tmp_path / "missing": None,
        tmp_path / "not-executable": 0o600,
        tmp_path / "no-program": 0o700,
    }
    for number, (program, mode) in enumerate(programs.items()):
        if mode is not None:
            program.write_bytes(b"\0\1\2")
            program.chmod(mode)
        service = fake(
            runtime=f"[runtime]\ncommand = ['{program}', '{{port}}']\n", name=f"{number}"
        )
        with pytest.raises(RuntimeUnavailable, match=program.name):
            service.pool.ensure("m")
        assert pb.SERVER_STATE_BACKING_OFF not in service.invariants.history("m")
