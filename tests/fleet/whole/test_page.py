"""Claims about what the page of a front is told, and `list`, over real members."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from pool_service_client import PoolClient
from tests.fleet.loopback import HOSTS, MODELS, LoopbackFleet, loopback_fleet
from tests.service.metrics import LIMIT_S, until
from tools.demo.service import command

pytestmark = pytest.mark.process

OURS = {"X-Pool": "1", "Content-Type": "application/json"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path, '[http]\nlisten = "127.0.0.1:0"\n') as one:
        yield one


@pytest.fixture
def pool(fleet: LoopbackFleet) -> Iterator[PoolClient]:
    with fleet.client() as client:
        yield client


def post(fleet: LoopbackFleet, method: str, body: str = "{}", **more: str) -> Any:  # noqa: ANN401
    request = Request(f"http://{fleet.http}/api/{method}", body.encode(), {**OURS, **more})
    with urlopen(request, timeout=LIMIT_S) as answer:
        return json.load(answer)


def changes(fleet: LoopbackFleet, model: str) -> list[dict[str, Any]]:
    return [one for one in post(fleet, "Changes", "")["changes"] if one["model"] == model]


def test_the_use_of_all_servers_is_told_with_the_totals_of_each_host(
    fleet: LoopbackFleet, pool: PoolClient
) -> None:
    for model in MODELS:
        pool.ensure(model, timeout=LIMIT_S)
    listed = {one.model: one for one in pool.list()}
    until(lambda: sum(one["totals"]["ready"] for one in post(fleet, "Usage")["hosts"]) == 4)
    usage = post(fleet, "Usage")
    assert {one["model"]: one["host"] for one in usage["servers"]} == {
        model: one.host for model, one in listed.items()
    }
    # Each host has an order of its own.
    assert sorted(one["place"] for one in usage["servers"]) == [1, 1, 2, 2]
    assert [one["host"] for one in usage["hosts"]] == list(HOSTS)
    assert {one["state"] for one in usage["hosts"]} == {"present"}
    reserved = [int(one["totals"]["memory_reserved_bytes"]) for one in usage["hosts"]]
    assert sum(reserved) == int(usage["totals"]["memory_reserved_bytes"]) > 0
    with pool.hold(MODELS[0]) as hold:
        hold.ready(LIMIT_S)
        (held,) = [one for one in post(fleet, "Usage")["servers"] if one["holds"]]
    assert held["model"] == MODELS[0]


def test_the_timeline_has_a_start_and_a_crash(fleet: LoopbackFleet, pool: PoolClient) -> None:
    server = pool.ensure(MODELS[0], timeout=LIMIT_S).server
    until(lambda: changes(fleet, MODELS[0])[-1]["state"] == "SERVER_STATE_READY")
    os.kill(server.pid, signal.SIGKILL)
    ended = until(lambda: [one for one in changes(fleet, MODELS[0]) if one["cause"]])
    assert (ended[0]["cause"], ended[0]["host"]) == ("CRASHED", server.host)


def test_another_site_is_refused(fleet: LoopbackFleet) -> None:
    with pytest.raises(HTTPError, match="403"):
        post(fleet, "Usage", Origin="http://evil.example")


def test_list_shows_the_hosts_and_a_member_that_is_not_seen(
    fleet: LoopbackFleet, pool: PoolClient
) -> None:
    for model in MODELS:
        pool.ensure(model, timeout=LIMIT_S)
    hosts = {one.model: one.host for one in pool.list()}
    listing = command("--address", fleet.address, "list")
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][2] == "HOST"
    assert {line[0]: line[2] for line in lines[1 : 1 + len(MODELS)]} == hosts
    fleet.members["mini"].process.kill()
    until(lambda: "mini" not in {one.host for one in pool.list()})
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    assert "mini: its servers are not listed" in done.stderr
