"""Claims about a gateway before a front: one address for the models of all hosts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from pool_service_client import PoolClient
from tests.fleet.loopback import HOSTS, MODELS, LoopbackFleet, loopback_fleet
from tests.gateway.conftest import RunningGateway, gateway
from tests.service.metrics import LIMIT_S, until

pytestmark = pytest.mark.process


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path) as one:
        yield one


@pytest.fixture
def pool(fleet: LoopbackFleet) -> Iterator[PoolClient]:
    with fleet.client() as client:
        yield client


@pytest.fixture
def before(fleet: LoopbackFleet, tmp_path: Path) -> Iterator[RunningGateway]:
    with gateway(fleet.address, tmp_path / "gateway.log") as one:
        yield one


def chat(before: RunningGateway, model: str) -> dict[str, Any]:
    """What a chat with a model is answered."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    request = Request(
        f"{before.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=LIMIT_S) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def test_a_chat_reaches_models_on_all_hosts_and_one_that_has_moved(
    fleet: LoopbackFleet, pool: PoolClient, before: RunningGateway
) -> None:
    for model in MODELS:
        told = chat(before, model)
        assert told["choices"][0]["message"]["content"]
    hosts = {one.model: one.host for one in pool.list()}
    assert set(hosts.values()) == set(HOSTS)
    lost = hosts[MODELS[0]]
    fleet.members[lost].process.kill()
    fleet.members[lost].process.wait()
    until(lambda: lost not in {one.host for one in pool.list()})
    for model in MODELS:
        assert chat(before, model)["choices"][0]["message"]["content"]
    assert {one.model for one in pool.list()} == set(MODELS)
    assert {one.host for one in pool.list()} == set(HOSTS) - {lost}


def test_the_models_of_all_hosts_are_listed(before: RunningGateway) -> None:
    with urlopen(f"{before.url}/v1/models", timeout=LIMIT_S) as answer:
        assert {one["id"] for one in json.load(answer)["data"]} == set(MODELS)
