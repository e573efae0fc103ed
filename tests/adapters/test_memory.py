"""Claims about a look at the memory, and about what is understood of what systems say."""

import json
import os
import struct

import pytest

from pool_service.adapters.memory.footprint import Footprints, of_process, of_rusage, of_status
from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.memory.memory import HostMemory, metal_memory
from pool_service.adapters.probe.http_get import Answer
from pool_service.adapters.process.identity import identity_of
from pool_service.core.types import Identity


def answer(content: object, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(content).encode())


def test_anonymous_and_shared_memory_and_swap_count_and_files_do_not() -> None:
    status = (
        "Name:\tpython\nVmRSS:\t  900 kB\nRssAnon:\t  100 kB\nRssFile:\t  500 kB\n"
        "RssShmem:\t   20 kB\nVmSwap:\t    3 kB\n"
    )
    assert of_status(status) == 123 * 1024


def test_of_macos_the_systems_own_footprint_counts() -> None:
    numbers = [*range(1, 8), 123_456, 9, 10]
    assert of_rusage(b"u" * 16 + struct.pack("=10Q", *numbers)) == 123_456


def test_the_footprint_of_this_process_grows_with_what_it_takes() -> None:
    before = of_process(os.getpid())
    taken = bytearray(os.urandom(1024)) * (32 * 1024)
    assert of_process(os.getpid()) - before > 24 * 1024**2
    assert taken


def test_of_a_process_that_is_gone_nothing_is_told() -> None:
    gone = Identity(os.getpid(), 1, "another boot")
    assert Footprints().of([gone]) == {}


def test_a_process_that_cannot_be_looked_at_is_left_out() -> None:
    me = identity_of(os.getpid())
    assert me is not None

    def forbidden(_pid: int) -> int:
        raise PermissionError

    assert Footprints(forbidden).of([me]) == {}


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
