import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.bench import gateway_backend
from tools.bench.gateway import Round, figures
from tools.bench.gateway_load import Load, take
from tools.bench.gateway_ways import DIRECT, PROXY, REDIRECT
from tools.bench.report import table
from tools.bench.turns import free_port


def the_clock() -> float:
    return 0.0


@pytest.fixture(scope="module")
def backend() -> Iterator[str]:
    port, file = free_port(), str(Path(gateway_backend.__file__))
    with subprocess.Popen([sys.executable, "-S", "-E", file, str(port)]) as process:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
        process.kill()


@pytest.mark.process
def test_all_chunks_of_all_streams_come_at_their_pace(backend: str) -> None:
    taken = take(Load("m", streams=8, chunks=5, pace_s=0.02), backend, the_clock)
    assert len(taken.firsts) == 8
    assert taken.took >= 0.08
    assert taken.delays
    assert all(delay > 0 for delay in taken.delays)


@pytest.mark.process
def test_at_full_speed_nothing_is_lost(backend: str) -> None:
    taken = take(Load("m", streams=3, chunks=2000, pace_s=0.0), backend, the_clock)
    assert len(taken.firsts) == 3


def test_what_is_not_installed_has_a_row_that_says_so() -> None:
    rounds = [Round(1.0, 1.0, 1.0, 1.0, 1.0)]
    found = figures({DIRECT: rounds, PROXY: rounds, REDIRECT: rounds})
    assert "| llama-swap (llama-swap is not installed) | not measured |" in table(found)
    assert not any(one.is_missed for one in found if not one.pairs)
