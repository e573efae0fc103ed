"""The service as the first process of a container without an init."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pool_service_client import PoolClient, RetryPolicy, StartFailed
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import command

NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child=SIGTERM", "--mount-proc")

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        sys.platform != "linux"
        or subprocess.run((*NAMESPACE, "true"), capture_output=True, check=False).returncode != 0,
        reason="makes a namespace for processes",
    ),
]


@contextmanager
def first_process(root: Path) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process, str]]:
    """The unshare, process 1 as it is seen from outside, and the address of the service."""
    (root / "config.toml").write_text(FAKE_RUNTIME)
    options = ("--config", str(root / "config.toml"), "--state-dir", str(root / "state"))
    words = command("serve", *options, "--listen", "127.0.0.1:0")
    with subprocess.Popen((*NAMESPACE, *words), stdout=subprocess.PIPE, text=True) as outer:
        assert outer.stdout is not None
        address = outer.stdout.readline().removeprefix("listening on ").strip()
        (inner,) = psutil.Process(outer.pid).children()
        try:
            yield outer, inner, address
        finally:
            if inner.is_running():
                inner.kill()


def test_a_terminal_of_another_session_keeps_it_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(FAKE_RUNTIME)
    options = ("--config", str(tmp_path / "config.toml"), "--state-dir", str(tmp_path / "state"))
    words = command("serve", *options, "--listen", "127.0.0.1:0")
    own, others = pty.openpty()
    with (
        os.fdopen(own),
        os.fdopen(others) as terminal,
        subprocess.Popen(
            ("setsid", "--wait", *NAMESPACE, *words),
            stdin=terminal,
            stdout=subprocess.PIPE,
            text=True,
        ) as outer,
    ):
        assert outer.stdout is not None
        said = outer.stdout.readline()
        for inner in psutil.Process(outer.pid).children():
            inner.terminate()
    assert said.startswith("listening on ")


def zombies(process: psutil.Process) -> list[psutil.Process]:
    return [one for one in process.children() if is_zombie(one)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_what_loses_its_parent_is_reaped_and_exit_codes_stay_those_of_servers(
    tmp_path: Path,
) -> None:
    with first_process(tmp_path) as (outer, inner, address), PoolClient.connect(address) as pool:
        (service,) = inner.children()
        # Its grandchild leaves it, and is nobody's when it ends.
        for number in range(3):
            model = f"m/{number}"
            server = pool.ensure(model, runtime_model="x?child=setsid").server
            assert server.pid
            pool.evict(model, force=True)
        once = PoolClient.connect(address, retry=RetryPolicy(patience=0))
        with once, pytest.raises(StartFailed, match="exited with code 3"):
            once.ensure("dies", runtime_model="x?die=3")
        while zombies(inner):
            time.sleep(0.02)
        service.send_signal(signal.SIGHUP)
        os.kill(inner.pid, signal.SIGTERM)
        assert outer.wait() == 0


def test_one_signal_from_outside_is_one_to_the_service(tmp_path: Path) -> None:
    with first_process(tmp_path) as (outer, inner, address), PoolClient.connect(address) as pool:
        assert pool.ensure("m").started
        os.kill(inner.pid, signal.SIGINT)
        assert outer.wait() == 0


def test_the_end_of_the_service_is_the_end_of_process_1(tmp_path: Path) -> None:
    with first_process(tmp_path) as (outer, inner, _):
        (service,) = inner.children()
        service.kill()
        assert outer.wait() == 128 + signal.SIGKILL
