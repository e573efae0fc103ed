"""How much memory there is for servers, and how many of a group there may be."""

import pytest

from pool_service.core.types import FOREVER
from tests.config.conftest import GIB, Read

MIB = 1024**2


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *(('"24 GB"', 24e9), ('"24GiB"', 24 * GIB), ('"1.5 gib"', 1.5 * GIB), ('"24g"', 24e9)),
        *((str(2 * GIB), 2 * GIB), ('"80%"', 80 * MIB), ('"12.5 %"', 12.5 * MIB)),
        *(('"100%"', 100 * MIB), ('"none"', FOREVER)),
    ],
)
def test_the_budget_is_bytes_a_share_of_the_machine_or_none(
    read: Read, said: str, meant: float
) -> None:
    limits = read(f"[memory]\nbudget = {said}").limits(total=100 * MIB, default_budget=7)
    assert limits.memory_budget == meant


def test_without_a_setting_the_machine_decides_the_budget(read: Read) -> None:
    assert read("").limits(total=10 * GIB, default_budget=7 * GIB).memory_budget == 7 * GIB


@pytest.mark.parametrize(
    ("said", "total", "meant"),
    [
        ('"3 GB"', 10 * GIB, 3_000_000_000),
        ('"10%"', 10 * GIB, GIB),
        ("0", 10 * GIB, 0),
        ('"0%"', 10 * GIB, 0),
        (None, 10 * GIB, GIB // 2),
        (None, 512 * GIB, 2 * GIB),
    ],
)
def test_the_reserve_is_bytes_or_a_share_and_else_a_small_one(
    read: Read, said: str | None, total: int, meant: int
) -> None:
    text = "[memory]" if said is None else f"[memory]\nreserve = {said}"
    assert read(text).limits(total, default_budget=0).memory_reserve == meant


def test_limits_are_what_the_file_says(read: Read) -> None:
    limits = read("""
        [service]
        max_starts = 3
        [memory]
        queue_limit = 5
        queue_timeout = "1m"
        sample_interval = 2.5
        [groups.large]
        [groups."gpu.0"]
        limit = 3
    """).limits(GIB, GIB)
    assert limits.max_starts == 3
    assert (limits.queue_limit, limits.queue_timeout, limits.sample_interval) == (5, 60.0, 2.5)
    assert limits.groups == {"large": 1, "gpu.0": 3}


@pytest.mark.parametrize("variable", ["24GB", "24000000000"])
def test_a_variable_and_a_flag_say_it_too(read: Read, variable: str) -> None:
    environ = {"POOL_SERVICE_MEMORY_BUDGET": variable, "POOL_SERVICE_MEMORY_RESERVE": "10%"}
    limits = read("[memory]\nbudget = '1 GB'", environ).limits(10 * GIB, 0)
    assert (limits.memory_budget, limits.memory_reserve) == (24_000_000_000, GIB)
    flags = {"memory_budget": "50%"}
    assert read("", environ, flags).limits(10 * GIB, 0).memory_budget == 5 * GIB
