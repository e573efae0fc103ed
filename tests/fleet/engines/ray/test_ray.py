"""Members from Ray: the real lister in a process of its own, with a module in the place of Ray."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.typing import EventDict

from pool_service.fleet.engines.ray.membership import RayMembership
from tests.fleet.engines.told import LIMIT_S, Told, events, logged

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[4]
HEAD = "10.0.0.1:6379"

MODULE = """
import json, os, pathlib, time
HERE = pathlib.Path(__file__).parent

def told(name):
    return (HERE / name).exists()

def init(*, address, log_to_driver, logging_level):
    (HERE / "started").open("a").write(f"{os.getpid()} {address}\\n")
    if told("refuses"):
        raise ConnectionError("no head is there")

def nodes():
    while told("hangs"):
        time.sleep(0.01)
    if told("dies"):
        os.abort()
    if told("nonsense"):
        print("nonsense", flush=True)
    return json.loads((HERE / "nodes").read_text())
"""


@dataclass
class FakeRay:
    """Takes the place of Ray in processes that find it first."""

    directory: Path

    def set(self, *nodes: dict[str, Any]) -> None:
        new = self.directory / "new"
        new.write_text(json.dumps(nodes))
        new.replace(self.directory / "nodes")

    def begin(self, what: str) -> None:
        (self.directory / what).touch()

    def end(self, what: str) -> None:
        (self.directory / what).unlink()

    @property
    def started(self) -> Sequence[tuple[int, str]]:
        """The process and the head of each lister that was started."""
        lines = (self.directory / "started").read_text().splitlines()
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    def until_started(self, count: int) -> None:
        """Return once so many listers were started."""
        limit = time.monotonic() + LIMIT_S
        while len(self.started) < count:
            assert time.monotonic() < limit
            time.sleep(0.02)


@asynccontextmanager
async def following(membership: RayMembership) -> AsyncIterator[Told[Mapping[str, str]]]:
    """Keep the members of each change while the block runs; wait for the end of the process."""
    told: Told[Mapping[str, str]] = Told()

    async def follow() -> None:
        async for members in membership.changes():
            told(members)

    task = asyncio.create_task(follow())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()


@asynccontextmanager
async def observed(
    membership: RayMembership,
) -> AsyncIterator[tuple[Told[Mapping[str, str]], Told[EventDict]]]:
    """Keep the members, and what is logged."""
    with logged() as logs:
        async with following(membership) as told:
            yield told, logs


@pytest.fixture
def ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    (tmp_path / "ray.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fake = FakeRay(tmp_path)
    fake.set()
    return fake


def node(address: str, host: str, *, alive: bool = True, **labels: str) -> dict[str, Any]:
    written = {name.replace("_", "-"): value for name, value in labels.items()}
    return {
        "Alive": alive,
        "NodeManagerAddress": address,
        "NodeManagerHostname": host,
        "Labels": {"ray.io/node-id": "x", **written},
    }


def membership(silence_limit_s: float = LIMIT_S, python: Path | None = None) -> RayMembership:
    return RayMembership(HEAD, python, silence_limit_s, least_pause_s=0.05)


async def test_members_are_the_living_nodes_with_the_label(ray: FakeRay) -> None:
    ray.set(
        node("10.0.0.5", "mac-1", pool="50051"),
        node("10.0.0.6", "mac-2", pool="50052", pool_name="studio"),
        node("fd00::7", "mac-3", pool="50051"),
        node("10.0.0.8", "mac-4"),
        node("10.0.0.9", "mac-5", alive=False, pool="50051"),
    )
    async with following(membership()) as told:
        assert await told.until(lambda known: True) == {
            "mac-1": "10.0.0.5:50051",
            "studio": "10.0.0.6:50052",
            "mac-3": "[fd00::7]:50051",
        }
    assert [head for _, head in ray.started] == [HEAD]


async def test_members_come_and_go_with_their_nodes(ray: FakeRay) -> None:
    async with following(membership()) as told:
        await told.until(lambda known: known == {})
        ray.set(node("10.0.0.5", "mac-1", pool="1"))
        await told.until(lambda known: known == {"mac-1": "10.0.0.5:1"})
        ray.set(node("10.0.0.5", "mac-1", alive=False, pool="1"))
        await told.until(lambda known: known == {})


async def test_the_last_members_hold_while_ray_ends_each_process_that_asks(ray: FakeRay) -> None:
    ray.set(node("10.0.0.5", "mac-1", pool="1"))
    async with observed(membership()) as (told, logs):
        await told.until(lambda known: len(known) == 1)
        ray.begin("refuses")
        ray.begin("dies")
        entry = await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
        ray.end("dies")
        await asyncio.to_thread(ray.until_started, 3)
        ray.end("refuses")
        await logs.until(lambda entry: entry["event"] == "fleet_engine_answers_again")
        assert told.all == [{"mac-1": "10.0.0.5:1"}]
        ray.set(node("10.0.0.6", "mac-2", pool="1"))
        await told.until(lambda known: known == {"mac-2": "10.0.0.6:1"})
    assert HEAD in entry["what"]
    assert events(logs) == ["fleet_engine_failed", "fleet_engine_answers_again"]


async def test_what_ray_said_last_is_the_reason(ray: FakeRay) -> None:
    ray.begin("refuses")
    async with observed(membership()) as (_, logs):
        entry = await logs.until(lambda entry: True)
    assert entry["reason"] == "ConnectionError: no head is there"


@pytest.mark.parametrize(
    ("how", "reason"), [("hangs", "was silent for 5 s"), ("nonsense", "wrote 'nonsense'")]
)
async def test_a_process_that_is_of_no_use_is_replaced(ray: FakeRay, how: str, reason: str) -> None:
    async with observed(membership(silence_limit_s=5.0)) as (told, logs):
        await told.until(lambda known: True)
        ray.begin(how)
        await logs.until(
            lambda entry: entry["event"] == "fleet_engine_failed" and reason in entry["reason"]
        )
        ray.end(how)
        ray.set(node("10.0.0.5", "mac-1", pool="1"))
        await told.until(lambda known: known == {"mac-1": "10.0.0.5:1"})
    first, *_, last = (process for process, _ in ray.started)
    assert first != last


async def test_two_nodes_of_one_name_are_told_once(ray: FakeRay) -> None:
    ray.set(node("10.0.0.6", "mac-1", pool="1"), node("10.0.0.5", "mac-1", pool="1"))
    async with observed(membership()) as (told, logs):
        assert await told.until(lambda known: True) == {"mac-1": "10.0.0.5:1"}
        ray.set(
            node("10.0.0.6", "mac-1", pool="1"),
            node("10.0.0.5", "mac-1", pool="1"),
            node("10.0.0.7", "mac-2", pool="1"),
        )
        await told.until(lambda known: len(known) == 2)
    assert [(entry["event"], entry["name"]) for entry in logs.all] == [
        ("fleet_name_taken", "mac-1")
    ]


async def test_an_interpreter_that_is_not_there_is_told(ray: FakeRay, tmp_path: Path) -> None:
    async with observed(membership(python=tmp_path / "none")) as (_, logs):
        entry = await logs.until(lambda entry: True)
    assert entry["reason"] == f"cannot run {tmp_path / 'none'}: No such file or directory"


FOLLOWS = """
import asyncio
from pool_service.fleet.engines.ray.membership import RayMembership

async def follow():
    async for members in RayMembership("10.0.0.1:6379").changes():
        print("told", flush=True)

asyncio.run(follow())
"""


async def test_a_process_that_asks_ends_with_a_front_that_is_killed(ray: FakeRay) -> None:
    front = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        FOLLOWS,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": f"{ray.directory}:{ROOT}"},
    )
    assert front.stdout
    await front.stdout.readline()
    ((process, _),) = ray.started
    lister = psutil.Process(process)
    front.send_signal(signal.SIGKILL)
    await front.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [lister], LIMIT_S)
    assert gone == [lister]


async def test_a_process_that_asks_ends_with_the_following_of_members(ray: FakeRay) -> None:
    async with following(membership()) as told:
        await told.until(lambda known: True)
    ((process, _),) = ray.started
    lister = psutil.Process(process) if psutil.pid_exists(process) else None
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [lister] if lister else [], LIMIT_S)
    assert gone == ([lister] if lister else [])
