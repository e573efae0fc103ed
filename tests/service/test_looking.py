"""Looking at a pool is no use of it: whichever way, nothing is kept, started or changed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.request import Request, urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.service.conftest import FAKE_RUNTIME, Start
from tests.service.live import a_terminal, top
from tests.service.metrics import LIMIT_S, get, http_address
from tools.demo.service import RunningService, command

CONFIG = f"""
{FAKE_RUNTIME}
[http]
listen = "127.0.0.1:0"
# Neither what is measured nor a grace period that ends changes anything that is shown.
[defaults]
grace_period = 0
[models.first]
aliases = ["other"]
expected_memory = "1 GB"
[models.second]
expected_memory = "2 GB"
[models.absent]
"""

NAMES = ("first", "other", "second", "absent")

USES = {"Ensure", "Evict", "Forget", "Hold", "Pin", "Pull", "Reload"}
"""The methods that are not a look."""

Stub = pb_grpc.PoolServiceStub


@dataclass(frozen=True, slots=True)
class Pool:
    """A service with servers of `first` and `second`."""

    service: RunningService
    channel: grpc.Channel
    stub: Stub

    def seen(self) -> tuple[object, ...]:
        """Return what a look must leave as it is: the servers, their order, and the revision."""
        listed = self.stub.List(pb.ListRequest())
        for server in listed.servers:
            # They are measured by themselves.
            server.ClearField("footprint_bytes")
            server.ClearField("peak_bytes")
        described = self.stub.Describe(pb.DescribeRequest(model="first"))
        order = [(one.model, one.generation) for one in described.next_to_go]
        return list(listed.servers), order, listed.revision


@pytest.fixture
def pool(start: Start) -> Iterator[Pool]:
    service = start(CONFIG)
    with grpc.insecure_channel(service.address) as channel:
        stub = Stub(channel)
        for model in ("first", "second"):
            stub.Ensure(pb.EnsureRequest(model=model))
        yield Pool(service, channel, stub)


def list_servers(pool: Pool) -> None:
    pool.stub.List(pb.ListRequest(page_size=1))


def list_models(pool: Pool) -> None:
    pool.stub.ListModels(pb.ListModelsRequest(found=True))


def describe(pool: Pool) -> None:
    for name in NAMES:
        pool.stub.Describe(pb.DescribeRequest(model=name))


def watch(pool: Pool) -> None:
    changes = pool.stub.Watch(pb.WatchRequest())
    next(change for change in changes if change.HasField("synced"))
    changes.cancel()


def read_logs(pool: Pool) -> None:
    for name in ("first", "other", "second"):
        follower = pool.stub.TailLogs(pb.TailLogsRequest(model=name, follow=True))
        assert list(islice(follower, 1))
        follower.cancel()
        assert list(pool.stub.TailLogs(pb.TailLogsRequest(model=name)))


def get_servers(pool: Pool) -> None:
    for name in NAMES:
        for check in (False, True):
            found = pool.stub.Get(pb.GetRequest(model=name, check=check))
            assert found.answers == (check and name != "absent")


LOOKS: dict[str, Callable[[Pool], None]] = {
    "List": list_servers,
    "Get": get_servers,
    "ListModels": list_models,
    "Describe": describe,
    "Watch": watch,
    "TailLogs": read_logs,
}
"""A look by each method that is one."""


def ask_for_health(pool: Pool) -> None:
    stub: Any = health_pb2_grpc.HealthStub(pool.channel)
    for name in ("", "pool_service.v1.PoolService"):
        stub.Check(health_pb2.HealthCheckRequest(service=name))
    changes = stub.Watch(health_pb2.HealthCheckRequest())
    assert list(islice(changes, 1))
    changes.cancel()


def ask_what_there_is(pool: Pool) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(pool.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    assert list(stub.ServerReflectionInfo(iter([request])))


def scrape(pool: Pool) -> None:
    address = http_address(pool.service)
    for path in ("/metrics", "/healthz"):
        assert get(address, path)


def use_the_page(pool: Pool) -> None:
    address = http_address(pool.service)
    assert get(address, "/")
    calls = [("Usage", ""), ("Changes", ""), ("Ended", "[]"), ("ListModels", '{"found": true}')]
    calls += [("Describe", json.dumps({"model": name})) for name in NAMES]
    streams = [("Watch", "{}"), ("TailLogs", '{"model": "first", "follow": true}')]
    for method, body in [*calls, *streams]:
        request = Request(
            f"http://{address}/api/{method}", body.encode(), {"X-Pool": "1"}, method="POST"
        )
        with urlopen(request, timeout=LIMIT_S) as answer:
            assert answer.readline()


def use_the_command_line(pool: Pool) -> None:
    for arguments in (
        ("list",),
        ("list", "--json"),
        ("models", "--json"),
        *(("describe", name) for name in NAMES),
        ("logs", "other"),
        ("logs", "second", "--all"),
        ("events", "--state-dir", str(pool.service.log.parent)),
        ("events", "--state-dir", str(pool.service.log.parent), "--model", "first", "--json"),
    ):
        done = subprocess.run(
            command(*arguments), env=environment(pool), capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def follow_on_the_command_line(pool: Pool) -> None:
    for arguments in (
        ("watch",),
        ("logs", "first", "-f"),
        ("events", "--state-dir", str(pool.service.log.parent), "-f"),
    ):
        with subprocess.Popen(
            command(*arguments),
            env=environment(pool),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            process.send_signal(signal.SIGINT)


def look_at_it_live(pool: Pool) -> None:
    with a_terminal() as terminal, top(pool.service.address, terminal) as process:
        terminal.wait_for_screen("> first", "READY", "2 servers")
        for keys, shown in (
            ("j", "> second"),
            ("d", "description of second"),
            ("ql", "Uvicorn running"),
            ("q?", "up, down, j, k"),
            ("qGd", "description of absent"),
            ("qa", "> absent"),
        ):
            terminal.forget()
            terminal.type(keys)
            terminal.wait_for(shown)
        terminal.type("q")
        assert process.wait(60) == 0


def environment(pool: Pool) -> dict[str, str]:
    return {**os.environ, "POOL_SERVICE_ADDRESS": pool.service.address}


def test_every_method_is_known_as_a_use_or_as_a_look() -> None:
    methods = pb.DESCRIPTOR.services_by_name["PoolService"].methods_by_name
    assert set(methods) == USES | set(LOOKS)
    assert USES.isdisjoint(LOOKS)


@pytest.mark.parametrize(
    "look",
    [
        *LOOKS.values(),
        ask_for_health,
        ask_what_there_is,
        scrape,
        use_the_page,
        use_the_command_line,
        follow_on_the_command_line,
        look_at_it_live,
    ],
)
def test_a_look_keeps_starts_and_changes_nothing(pool: Pool, look: Callable[[Pool], None]) -> None:
    before = pool.seen()
    look(pool)
    assert pool.seen() == before


def test_a_use_is_seen_by_what_the_looks_are_compared_by(pool: Pool) -> None:
    before = pool.seen()
    until = time.monotonic() + 60.0
    # A use that follows another one closely is not written.
    while pool.seen() == before:
        assert time.monotonic() < until, "no use was seen"
        pool.stub.Ensure(pb.EnsureRequest(model="first"))
