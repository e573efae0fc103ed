"""Claims about many streams at once, by a server that works on all of them."""

import resource
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.gateway.conftest import RunningGateway, gateway
from tools.bench import gateway_backend
from tools.bench.gateway_load import Load, take
from tools.demo.service import running

pytestmark = [pytest.mark.process, pytest.mark.long]

STREAMS = 256
LIMIT_S = 300.0
CONFIG = f"""
[runtime]
command = [{sys.executable!r}, "-S", "-E", {str(Path(gateway_backend.__file__).absolute())!r},
           "{{port}}"]
served_model_name = "{{model}}"
[models."many"]
runtime_model = "many"
"""


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Give programs that start within the block as few descriptors as macOS does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield
    finally:
        # What the test itself needs.
        enough = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, enough), hard))


def in_flight(front: RunningGateway) -> int:
    with urllib.request.urlopen(f"{front.url}/metrics") as response:
        lines = response.read().decode().splitlines()
    begins = 'pool_gateway_in_flight_requests{model="many"} '
    return sum(int(float(line.removeprefix(begins))) for line in lines if line.startswith(begins))


def wait_for_all(front: RunningGateway) -> None:
    end = time.monotonic() + LIMIT_S
    while in_flight(front) < STREAMS:
        assert time.monotonic() < end, "not all streams have begun"
        time.sleep(0.05)


def test_no_stream_is_cut_while_the_service_is_killed_and_another_takes_over(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    address, arguments = f"unix:{tmp_path}/s", ["--config", str(config)]
    load = Load("many", streams=STREAMS, chunks=120, pace_s=0.25)
    with ExitStack() as stack, ThreadPoolExecutor(1) as threads:
        first = stack.enter_context(running(tmp_path / "state", (address,), arguments))
        with few_descriptors():
            front = stack.enter_context(gateway(address, tmp_path / "gateway.log"))
        # The model is READY, so that no stream waits for it.
        pool = stack.enter_context(PoolClient.connect(address))
        before = pool.ensure("many").server
        taken = threads.submit(take, load, f"{front.url}/v1/chat/completions", time.monotonic)
        wait_for_all(front)
        first.process.kill()
        first.process.wait()
        stack.enter_context(running(tmp_path / "state", (address,), arguments))
        (after,) = pool.list()
        assert in_flight(front) == STREAMS, "the streams have outlived the service"
        assert (after.pid, after.generation) == (before.pid, before.generation), "adopted"
        assert len(taken.result(LIMIT_S).firsts) == STREAMS
