"""Claims about the logs of real servers, which are written to and trimmed while they are read."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from pool_service.adapters.logs.log_trim import trim_file
from pool_service_client import ExitCause, LogEnd, LogLines, PoolClient
from tests.service.conftest import Start
from tools.demo.service import RunningService

NUMBER = re.compile(r"number (\d+)$")


def numbers(parts: Iterator[LogLines | LogEnd], last: int) -> tuple[list[int], int]:
    """The numbered lines up to `last`, and how many bytes were missed."""
    found, missed = list[int](), 0
    for part in parts:
        if isinstance(part, LogLines):
            missed += part.missed_bytes
            found += [int(match[1]) for line in part.lines if (match := NUMBER.search(line))]
        if found and found[-1] >= last:
            return found, missed
    raise AssertionError("it ended")


def append(log: Path, first: int, last: int) -> None:
    """As a server writes."""
    with log.open("a") as file:
        file.writelines(f"number {number:08d}\n" for number in range(first, last))


def test_a_log_that_is_trimmed_while_it_is_followed_is_told_in_order_with_what_is_missing(
    pool: PoolClient,
) -> None:
    log = Path(pool.ensure("m").server.log_path)
    with pool.logs("m", follow=True) as parts:
        # The stream is open now.
        assert next(parts).generation == 1
        append(log, 0, 1)
        assert numbers(parts, 0) == ([0], 0)
        # Nobody reads meanwhile, beyond what is under way to the reader.
        append(log, 1, 400_000)
        assert trim_file(log, 1_000_000)
        append(log, 400_000, 500_000)
        found, missed = numbers(parts, 499_999)
    assert found == sorted(set(found))
    assert missed > 0
    assert len(found) + missed // len("number 00000000\n") == 499_999


def test_a_follower_sees_the_end_of_a_server_and_the_next_one(pool: PoolClient) -> None:
    pool.ensure("m")
    with pool.logs("m", follow=True) as parts:
        assert next(parts).generation == 1
        pool.evict("m")
        end = next(part for part in parts if isinstance(part, LogEnd))
        assert end.exit is not None
        assert (end.generation, end.exit.cause) == (1, ExitCause.EVICTED)
        pool.ensure("m")
        assert next(parts).generation == 2


def test_a_cursor_is_good_at_the_next_service(start: Start) -> None:
    first = start()
    with PoolClient.connect(first.address) as pool:
        log = Path(pool.ensure("m").server.log_path)
        append(log, 0, 10)
        *_, last = pool.logs("m")
        append(log, 10, 20)
    stop(first)
    with PoolClient.connect(start().address) as pool:
        parts = list(pool.logs("m", cursor=last.cursor))
    lines = itertools.chain.from_iterable(p.lines for p in parts if isinstance(p, LogLines))
    assert [int(m[1]) for line in lines if (m := NUMBER.search(line))] == list(range(10, 20))
    assert isinstance(parts[-1], LogEnd)


def stop(service: RunningService) -> None:
    service.process.terminate()
    service.process.wait(30)


def test_whatever_a_server_writes_is_told_as_text(pool: PoolClient) -> None:
    log = Path(pool.ensure("odd name/with @ signs: #1").server.log_path)
    with log.open("ab") as file:
        file.write(b"\xff\xfe\x1b]0;title\x07\x1b[2J\x9b1m end\n" + b"x" * 200_000 + b"\nlast\n")
    lines = [
        line
        for part in pool.logs("odd name/with @ signs: #1")
        if isinstance(part, LogLines)
        for line in part.lines
    ]
    assert all(line.isprintable() for line in lines)
    assert lines[-1] == "last"
    assert sum(line.count("x") for line in lines[-6:]) >= 200_000


def test_reading_a_log_is_no_use(pool: PoolClient) -> None:
    pool.ensure("m")
    (before,) = pool.list()
    with pool.logs("m", follow=True) as parts:
        next(parts)
        list(pool.logs("m", oldest=True))
        (after,) = pool.list()
    assert (after.last_use_time, after.expire_time) == (before.last_use_time, before.expire_time)
    assert after.holds == 0
