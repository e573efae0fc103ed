"""Claims about a look at the memory, and about what is understood of what systems say."""

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import psutil
import pytest

from pool_service.adapters.memory.footprint import Footprints, of_process, of_rusage, of_status
from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.memory.memory import MAX_BYTES, STATUS_PATH, HostMemory, metal_memory
from pool_service.adapters.probe.http_get import Answer
from pool_service.adapters.process.identity import identity_of
from pool_service.core.server import Phase, Server
from pool_service.core.types import Identity, Settings, Work
from tests.under_way import under_way


def answer(content: object, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(content).encode())


def test_anonymous_and_shared_memory_and_swap_count_and_files_do_not() -> None:
    status = (
        "Name:\tpython\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  500 kB\n"
        "RssShmem:\t   20 kB\nVmSwap:\t    3 kB\n"
    )
    assert of_status(status) == 123 * 1024


def test_of_macos_the_systems_own_footprint_counts() -> None:
    numbers = [*range(1, 8), 123_456, *range(9, 17), 654_321, 18]
    footprint, work = of_rusage(b"u" * 16 + struct.pack("=18Q", *numbers))
    assert footprint == 123_456
    assert work == Work(from_disk=654_321, written=18)


def test_the_footprint_of_this_process_grows_with_what_it_takes() -> None:
    before = of_process(os.getpid())
    taken = bytearray(os.urandom(1024)) * (32 * 1024)
    assert of_process(os.getpid()) - before > 24 * 1024**2
    assert taken


def test_of_a_process_that_is_gone_nothing_is_told() -> None:
    gone = Identity(os.getpid(), 1, "another boot")
    footprints = Footprints()
    assert footprints.of(footprints.trees([gone])) == {}


@pytest.mark.parametrize("is_first", [True, False])
def test_of_two_leaders_with_one_pid_the_younger_has_the_tree(*, is_first: bool) -> None:
    me = identity_of(os.getpid())
    assert me is not None
    gone = replace(me, start_time=me.start_time - 1)
    footprints = Footprints()
    taken = footprints.of(footprints.trees([gone, me] if is_first else [me, gone]))
    assert taken.keys() == {me}


def test_a_process_that_cannot_be_looked_at_is_left_out() -> None:
    me = identity_of(os.getpid())
    assert me is not None

    def forbidden(_pid: int) -> int:
        raise PermissionError

    assert Footprints(forbidden).of({me: [me.pid]}) == {}


async def test_a_look_tells_the_machine_and_what_it_cost() -> None:
    sample = await HostMemory(machine_memory()).sample([])
    assert 0 < sample.available <= sample.total
    assert sample.footprints == {}
    assert sample.cost > 0


def test_what_a_runtime_has_of_metal_is_what_is_active_and_what_it_keeps() -> None:
    told = {"metal": {"active_memory_gb": 2.5, "peak_memory_gb": 9.0, "cache_memory_gb": 0.5}}
    assert metal_memory(answer(told)) == 3_000_000_000


@pytest.mark.parametrize(
    "said",
    [
        None,
        answer({}, 404),
        answer([]),
        answer({"metal": None}),
        answer({"metal": {"active_memory_gb": None, "cache_memory_gb": None}}),
        answer({"metal": {"active_memory_gb": "1", "cache_memory_gb": 1.0}}),
        answer({"metal": {"active_memory_gb": 1e300, "cache_memory_gb": 1.0}}),
        answer({"metal": {"active_memory_gb": -5.0, "cache_memory_gb": 1.0}}),
        Answer(200, "text/plain", b"ok"),
        Answer(200, "application/json", b'{"metal": {"active_memory_gb": Infinity, '),
    ],
)
def test_what_says_nothing_of_metal_is_ignored(said: Answer | None) -> None:
    assert metal_memory(said) is None


@pytest.mark.parametrize(
    ("gigabytes", "count"),
    [(0.0, 0), (MAX_BYTES / 1e9, MAX_BYTES), (MAX_BYTES / 1e9 * 1.001, None)],
)
def test_metal_memory_is_believed_within_bounds(gigabytes: float, count: int | None) -> None:
    told = {"metal": {"active_memory_gb": gigabytes, "cache_memory_gb": 0.0}}
    assert metal_memory(answer(told)) == count


# --- a sample of servers ------------------------------------------------------------------


@dataclass
class Machine:
    """A machine whose memory is what a test says."""

    is_pressured: bool = False
    is_critical: bool = False

    def total(self) -> int:
        return 1000

    def available(self) -> int:
        return 400

    def both(self) -> tuple[int, int]:
        return self.total(), self.available()

    def pressured(self) -> bool:
        return self.is_pressured

    def critical(self) -> bool:
        return self.is_critical

    def default_budget(self) -> int:
        return 0

    def use_working_set(self, working_set: int) -> bool:
        return bool(working_set)


@pytest.mark.parametrize(
    ("pressured", "critical", "told"),
    [
        (False, False, (False, False)),
        (True, False, (True, False)),
        (True, True, (True, True)),
        # Of a moment that has passed between the two questions.
        (False, True, (False, False)),
    ],
)
async def test_memory_is_critical_only_if_it_is_short(
    pressured: bool, critical: bool, told: tuple[bool, bool]
) -> None:
    sample = await HostMemory(Machine(pressured, critical)).sample([])
    assert (sample.pressured, sample.critical) == told
    assert (sample.total, sample.available) == (1000, 400)


def of_pid(pid: int) -> Identity:
    identity = identity_of(pid)
    assert identity is not None
    return identity


def server(identity: Identity | None, endpoint: str = "", phase: Phase = Phase.READY) -> Server:
    settings = Settings(runtime_model="m")
    return Server("m", settings, phase, 1, 0.0, 0.0, 0.0, identity=identity, endpoint=endpoint)


@asynccontextmanager
async def metal(*gigabytes: float) -> AsyncIterator[tuple[str, list[str]]]:
    """The endpoint of a server that reports this much Metal memory; the paths it was asked."""
    asked = list[str]()
    body = json.dumps({"metal": {"active_memory_gb": gigabytes[0], "cache_memory_gb": 0.0}})

    async def answer_it(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readline()).decode().split()[1])
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        writer.close()

    async with await asyncio.start_server(answer_it, "127.0.0.1", 0) as there:
        yield f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}", asked


@pytest.mark.parametrize(("gigabytes", "is_reported"), [(1000.0, True), (0.0, False)])
async def test_of_a_server_the_larger_of_footprint_and_metal_memory_counts(
    gigabytes: float, is_reported: bool
) -> None:
    with under_way({}) as process:
        identity = of_pid(process.pid)
        async with metal(gigabytes) as (endpoint, asked):
            memory = HostMemory(Machine(), metal=True)
            taken = (await memory.sample([server(identity, endpoint)])).footprints[identity]
            assert asked == [STATUS_PATH]
        assert (taken == 10**12) is is_reported
        assert taken > 0
        process.kill()


async def test_a_server_that_is_not_ready_or_has_no_metal_is_not_asked() -> None:
    async with metal(1000.0) as (endpoint, asked):
        starting = server(None, endpoint, Phase.STARTING)
        assert (await HostMemory(Machine(), metal=True).sample([starting])).footprints == {}
        ready = server(of_pid(os.getpid()), endpoint)
        assert (await HostMemory(Machine(), metal=False).sample([ready])).footprints
        assert asked == []


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_stranger_on_the_port_of_a_server_is_not_asked(is_lost: bool) -> None:
    looked_at: list[tuple[Identity, str]] = []

    async def told(identity: Identity, endpoint: str) -> bool:
        looked_at.append((identity, endpoint))
        return is_lost

    async with metal(1000.0) as (endpoint, asked):
        own = of_pid(os.getpid())
        memory = HostMemory(Machine(), metal=True, is_lost=told)
        taken = (await memory.sample([server(own, endpoint)])).footprints[own]
        assert looked_at == [(own, endpoint)]
        assert asked == ([] if is_lost else [STATUS_PATH])
        assert (taken == 10**12) is not is_lost


async def test_a_server_whose_process_is_not_known_has_no_footprint() -> None:
    async with metal(1000.0) as (endpoint, _):
        sample = await HostMemory(Machine(), metal=True).sample([server(None, endpoint)])
        assert sample.footprints == {}


async def test_standbys_are_counted_together_until_they_are_servers() -> None:
    with under_way({}) as one, under_way({}) as other:
        waiting = [of_pid(one.pid), of_pid(other.pid)]
        memory = HostMemory(Machine(), metal=False, standbys=lambda: waiting)
        both = await memory.sample([])
        assert both.footprints == {}
        assert both.standbys > 0
        sample = await memory.sample([server(waiting[0])])
        assert sample.footprints.keys() == {waiting[0]}
        assert sample.standbys == both.standbys - sample.footprints[waiting[0]]
        one.kill()
        other.kill()


@pytest.mark.parametrize(
    ("session", "leader"),
    [(10, 10), (12, 10), (11, 10), (20, None), (30, None), (0, None)],
    ids=["its own", "two sessions on", "one session on", "of nobody", "a circle", "not known"],
)
def test_a_session_is_its_leaders_from_whose_it_was_started(
    session: int, leader: int | None
) -> None:
    footprints = Footprints()
    footprints._origins = {12: 11, 11: 10, 20: 0, 30: 31, 31: 30}
    found = footprints._leader_of(session, {10: Identity(10, 1, "boot")})
    assert (found.pid if found else None) == leader


def test_where_a_session_began_is_read_once_while_its_parent_lives() -> None:
    footprints = Footprints()
    with under_way({}) as process:
        assert footprints._origin(process.pid) == os.getsid(0)
        footprints._origins[process.pid] = 7
        assert footprints._origin(process.pid) == 7
        del footprints._origins[process.pid]
        process.kill()
    assert footprints._origin(process.pid) == 0
    assert footprints._origin(1) == 0, "it has no parent"


def test_a_session_that_init_has_started_has_no_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    for parent, origin in ((1, 0), (2, 77)):
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, "ppid", lambda _, parent=parent: parent)
            patch.setattr(os, "getsid", lambda _: 77)
            assert Footprints()._origin(os.getpid()) == origin
