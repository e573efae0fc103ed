"""What the soak holds for a violation: a checker that never finds anything proves nothing."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tools.soak.keeper import Keeper
from tools.soak.ledger import Ledger
from tools.soak.models import Model
from tools.soak.streams import Fate, fate_of
from tools.soak.watcher import Watcher

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
EVENTS = b'5\r\ndata: {"model": "m", "finish_reason": "length"}\r\n'
END = b"data: [DONE]\n\n\r\n0\r\n\r\n"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "events.log")
    yield ledger
    ledger.close()


@pytest.fixture
def watcher(tmp_path: Path, ledger: Ledger) -> Watcher:
    keeper = Keeper(tmp_path, tmp_path / "soak.toml", ledger, random.Random(1))
    watcher = Watcher(keeper, [Model("m", "m"), Model("mortal", "m", mortal=True)], ledger)
    watcher.receive(pb.WatchResponse(revision=10, synced=pb.Synced()), resumed=False)
    return watcher


def ready(model: str = "m", generation: int = 1, pid: int = 7) -> pb.Server:
    return pb.Server(
        model=model,
        generation=generation,
        pid=pid,
        state=pb.SERVER_STATE_READY,
        endpoint="http://127.0.0.1:1",
        role=pb.SERVER_ROLE_CURRENT,
    )


def ended(cause: int, model: str = "m", generation: int = 1) -> pb.Server:
    end = pb.Exit(generation=generation)
    end.cause = cause  # type: ignore[assignment]
    return pb.Server(
        model=model,
        generation=generation,
        state=pb.SERVER_STATE_FAILED,
        last_exit=end,
        role=pb.SERVER_ROLE_CURRENT,
    )


def removed(server: pb.Server, revision: int) -> pb.WatchResponse:
    return pb.WatchResponse(revision=revision, removed=server)


def told(watcher: Watcher, *servers: pb.Server, first: int = 11) -> None:
    for revision, server in enumerate(servers, first):
        watcher.receive(pb.WatchResponse(revision=revision, server=server), resumed=False)


def test_a_life_in_order_is_no_violation(watcher: Watcher, ledger: Ledger) -> None:
    evicted = ended(pb.EXIT_CAUSE_EVICTED)
    told(watcher, ready(), evicted)
    watcher.receive(removed(evicted, 13), resumed=False)
    told(watcher, ready(generation=2, pid=8), first=14)
    assert ledger.violations == []


def test_a_gap_in_the_revisions_is_one(watcher: Watcher, ledger: Ledger) -> None:
    told(watcher, ready(), first=12)
    assert "from 10 to 12" in ledger.violations[0]


def test_another_process_in_the_same_generation_is_one(watcher: Watcher, ledger: Ledger) -> None:
    told(watcher, ready(pid=7), ready(pid=8))
    assert "has pid 8, and had 7" in ledger.violations[0]


def test_a_generation_that_goes_back_is_one(watcher: Watcher, ledger: Ledger) -> None:
    told(watcher, ready(generation=3), ready(generation=2, pid=8))
    assert "went back" in ledger.violations[0]


def test_a_generation_that_is_given_up_before_it_began_is_none(
    watcher: Watcher, ledger: Ledger
) -> None:
    crashed = ended(pb.EXIT_CAUSE_EVICTED)
    next_one = ended(pb.EXIT_CAUSE_EVICTED, generation=2)
    next_one.state = pb.SERVER_STATE_BACKING_OFF
    told(watcher, ready())
    watcher.receive(removed(crashed, 12), resumed=False)
    told(watcher, next_one, first=13)
    watcher.receive(removed(next_one, 14), resumed=False)
    told(watcher, crashed, first=15)
    assert ledger.violations == []


def test_a_process_without_a_record_is_one(watcher: Watcher, ledger: Ledger) -> None:
    orphan = ready("", generation=7)
    orphan.role = pb.SERVER_ROLE_ORPHAN
    told(watcher, orphan)
    assert "no record told of: 7" in ledger.violations[0]


def test_a_second_current_server_of_a_model_is_one(watcher: Watcher, ledger: Ledger) -> None:
    told(watcher, ready(), ready(generation=2, pid=8))
    assert "m has several current servers: [1, 2]" in ledger.violations[0]


def test_one_beside_the_current_is_known_by_its_process(watcher: Watcher, ledger: Ledger) -> None:
    superseded = ready()
    superseded.role, superseded.state = pb.SERVER_ROLE_SUPERSEDED, pb.SERVER_STATE_STOPPING
    assert not watcher.beside
    told(watcher, ready(), superseded, ready(generation=2, pid=8), superseded)
    assert watcher.beside == {7}
    assert ledger.violations == []
    superseded.pid = 9
    told(watcher, superseded, first=15)
    assert "has pid 9, and had 7" in ledger.violations[0]


@pytest.mark.parametrize(
    "cause",
    [
        pb.EXIT_CAUSE_CRASHED,
        pb.EXIT_CAUSE_WEDGED,
        pb.EXIT_CAUSE_START_TIMEOUT,
        pb.EXIT_CAUSE_SHUTDOWN,
        pb.EXIT_CAUSE_ORPHANED,
    ],
)
def test_an_end_that_nobody_caused_is_one(watcher: Watcher, ledger: Ledger, cause: int) -> None:
    told(watcher, ready(), ended(cause))
    assert "without a reason" in ledger.violations[0]


def test_an_end_that_the_soak_caused_is_none(watcher: Watcher, ledger: Ledger) -> None:
    watcher.life(ready()).killed_by_us = True
    watcher.life(ready(generation=2)).stopped_by_us = True
    crashed = ended(pb.EXIT_CAUSE_CRASHED)
    told(watcher, crashed)
    watcher.receive(removed(crashed, 12), resumed=False)
    wedged = ended(pb.EXIT_CAUSE_WEDGED, generation=2)
    told(watcher, wedged, ended(pb.EXIT_CAUSE_CRASHED, "mortal"), first=13)
    assert ledger.violations == []


@pytest.mark.parametrize(
    ("text", "fate"),
    [
        (b"", Fate.REFUSED),
        (HEAD, Fate.CUT),
        (HEAD + EVENTS, Fate.CUT),
        (HEAD + EVENTS + END, Fate.WHOLE),
        (HEAD + EVENTS.replace(b'"m"', b'"another"') + END, Fate.WRONG),
        (b"HTTP/1.1 503 Busy\r\n\r\n", Fate.WRONG),
    ],
)
def test_a_stream_is_whole_only_with_its_end(text: bytes, fate: Fate) -> None:
    assert fate_of(text, "m") is fate
