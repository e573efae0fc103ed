"""Keys of servers: whoever asks the service gets them, and nothing else shows them.

The runtime here is another program than vllm-mlx, which gets its key in a variable or a file, and
writes it into its log.
"""

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from google.protobuf import json_format

from pool_service.access.server_keys import is_key
from pool_service_client import CrashLoop, LogLines, PoolClient, Server, StartFailed
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.service.conftest import FAKE, Start
from tests.service.metrics import get, http_address
from tools.demo.service import RunningService

LIMIT_S = 60.0

TELLS = 'echo "my key is $FAKE_API_KEY" >&2; exec "$@"'
"""What a program writes that tells all it knows."""

TELLING = f"""
[service]
log_level = "debug"
standby = 0
[http]
listen = "127.0.0.1:0"
[runtime]
kind = "vllm-mlx"
command = ['/bin/sh', '-c', '{TELLS}', 'sh', '{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
environment = {{ FAKE_API_KEY = "{{api_key}}" }}
"""

BY_FILE = f"""
[runtime]
kind = "vllm-mlx"
command = ['/usr/bin/env', 'FAKE_API_KEY_FILE={{api_key_file}}',
           '{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
"""


def status_of(server: Server, key: str) -> int:
    """Return how a server answers to a request that shows a key; "": it shows none."""
    shown = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with urlopen(
            Request(f"{server.endpoint}/v1/models", headers=shown), timeout=LIMIT_S
        ) as one:
            return int(one.status)
    except HTTPError as error:
        with error:
            return int(error.code)


def check_key(server: Server) -> None:
    assert is_key(server.api_key)
    assert status_of(server, server.api_key) == HTTPStatus.OK
    assert status_of(server, "") == HTTPStatus.UNAUTHORIZED
    assert status_of(server, "psk_guessed") == HTTPStatus.UNAUTHORIZED


@pytest.mark.parametrize("config", [TELLING, BY_FILE], ids=["variable", "file"])
def test_a_server_answers_by_its_own_key_alone(start: Start, config: str) -> None:
    with PoolClient.connect(start(config).address) as pool:
        one, other = pool.ensure("one").server, pool.ensure("other").server
        for server in (one, other):
            check_key(server)
            command = " ".join(psutil.Process(server.pid).cmdline())
            assert "fake_server" in command
            assert "psk_" not in command
        assert status_of(one, other.api_key) == HTTPStatus.UNAUTHORIZED
        os.kill(one.pid, signal.SIGKILL)
        with pool.hold("one") as hold:
            check_key(again := hold.ready(LIMIT_S, one))
        assert again.api_key != one.api_key


def test_a_file_with_a_key_is_its_users_alone_and_goes_with_the_server(
    start: Start, tmp_path: Path
) -> None:
    service = start(BY_FILE)
    with PoolClient.connect(service.address) as pool:
        server = pool.ensure("m").server
        (file,) = (tmp_path / "state" / "work").glob("*/api-key")
        assert file.read_text() == server.api_key
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        pool.evict("m")
        assert not file.exists()


def test_the_next_service_hands_out_the_key_of_a_server_that_goes_on(start: Start) -> None:
    first = start(TELLING)
    with PoolClient.connect(first.address) as pool:
        before = pool.ensure("m").server
    first.process.kill()
    first.process.wait()
    with PoolClient.connect(start(TELLING).address) as pool:
        after = pool.ensure("m").server
        assert (after.pid, after.api_key) == (before.pid, before.api_key)
        check_key(after)


def test_only_ensure_and_hold_tell_a_key_though_the_server_logs_it(
    start: Start, tmp_path: Path
) -> None:
    service = start(TELLING)
    with PoolClient.connect(service.address) as pool:
        server = pool.ensure("m").server
        assert f"my key is {server.api_key}" in Path(server.log_path).read_text()
        told = list(said_of_servers(pool, "m"))
        assert any("my key is psk_***" in text for text in told)
        for _ in range(4):
            with pytest.raises((StartFailed, CrashLoop)) as failed:
                pool.ensure("dies", runtime_model="x?die=7&say=the+dog")
            told += [str(failed.value), *failed.value.last_lines]
        assert any("my key is psk_***" in line for line in told)
        told += said_of_servers(pool, "dies")
    told += [page(service, "Ensure", {"model": "m"}), page(service, "Describe", {"model": "m"})]
    told += [get(http_address(service)), service.log.read_text()]
    for text in told:
        assert "psk_" not in text.replace("psk_***", "")
    # The record, for the next service, and what the servers have written: for this user alone.
    private = [path for path in (tmp_path / "state").rglob("*") if has_key(path)]
    assert {path.relative_to(tmp_path / "state").parts[0] for path in private} == {
        "servers",
        "logs",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def said_of_servers(pool: PoolClient, model: str) -> Iterator[str]:
    """Yield all that the service tells of a model by gRPC, but for Ensure and Hold."""
    yield str(pool.list())
    for response in (
        pool._stub.List(pb.ListRequest()),
        pool._stub.Describe(pb.DescribeRequest(model=model)),
        pool._stub.ListModels(pb.ListModelsRequest(found=True)),
        *islice(pool._stub.Watch(pb.WatchRequest()), 2),
    ):
        yield json_format.MessageToJson(response)
    for part in pool.logs(model, oldest=True):
        if isinstance(part, LogLines):
            yield from part.lines
        else:
            yield str(part)


def has_key(path: Path) -> bool:
    return path.is_file() and re.search(rb"psk_[\w-]{43}", path.read_bytes()) is not None


def page(service: RunningService, method: str, body: object) -> str:
    address = http_address(service)
    request = Request(
        f"http://{address}/api/{method}", json.dumps(body).encode(), {"X-Pool": "1"}, method="POST"
    )
    with urlopen(request, timeout=LIMIT_S) as answer:
        return str(answer.read().decode())
