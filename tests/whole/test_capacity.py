"""Capacity and use with the real vllm-mlx: models that fit run, and models in use stay."""

import json
import os
import shutil
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pool_service_client import (
    CodeNotTrusted,
    Event,
    Expectation,
    ModelNotOnDisk,
    ModelTooLarge,
    PoolClient,
    Server,
    ServerChanged,
    ServerInUse,
    ServerRemoved,
    ServerState,
    Synced,
)
from tests.fake_hub import fake_hub
from tests.idle import await_idle
from tests.whole.patient import PATIENT
from tests.whole.runs import headers
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.service import RunningService, running
from tools.demo.smollm2 import prepare_smollm2

pytestmark = pytest.mark.whole

MIB = 1024**2

KEEP_ALIVE_S = 20
"""Longer than a busy machine keeps a thread from asking."""

Begin = Callable[..., PoolClient]


@pytest.fixture(scope="module")
def smollm2() -> str:
    return str(prepare_smollm2(Path(".cache/models"), print).absolute())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("models") / "tiny"
    write_tiny_llama(directory)
    return str(directory)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts a service with this configuration, on one state directory; ended at the end."""
    with ExitStack() as stack:
        services = iter(range(9))

        def one(config: str) -> PoolClient:
            path = tmp_path / f"{next(services)}.toml"
            path.write_text(config)
            service: RunningService = stack.enter_context(
                running(tmp_path / "state", arguments=["--config", str(path)], wrapper=PATIENT)
            )
            return stack.enter_context(PoolClient.connect(service.address))

        yield one


def chat(server: Server, **fields: Any) -> Any:  # noqa: ANN401  # an open response
    body = {"model": server.served_model_name, "max_tokens": 8, **fields}
    body.setdefault("messages", [{"role": "user", "content": "Count to one hundred in words."}])
    request = urllib.request.Request(
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        headers(server),
    )
    return urllib.request.urlopen(request, timeout=200)


class Stream:
    """An answer that is being written; `begun` is set with its first token."""

    def __init__(self, server: Server, tokens: int) -> None:
        self.server = server
        self.tokens = tokens
        self.begun = threading.Event()

    def read(self) -> bool:
        """Read it all; whether it is whole."""
        with chat(self.server, max_tokens=self.tokens, stream=True) as response:
            response.readline()
            self.begun.set()
            rest: bytes = response.read()
        return rest.rstrip().endswith(b"data: [DONE]")


def read_present(events: Iterator[Event]) -> None:
    """Read of a watch what there is already; what it tells from now on it does not miss."""
    while not isinstance(next(events), Synced):
        pass


def wait_for(events: Iterator[Event], model: str, state: ServerState, detail: str = "") -> Server:
    for event in events:
        if (
            isinstance(event, ServerChanged)
            and event.server.model == model
            and event.server.state is state
            and detail in event.server.detail
        ):
            return event.server
    raise AssertionError("the watch ended")


@pytest.mark.promise(4)
def test_of_three_models_in_a_budget_for_two_the_third_waits_until_one_is_done(
    begin: Begin, smollm2: str
) -> None:
    pool = begin('[memory]\nbudget = "1700 MiB"\n[defaults]\ngrace_period = 0.5\n')
    with ThreadPoolExecutor(4) as threads, pool.watch() as events:
        first, second = (
            pool.ensure(name, runtime_model=smollm2).server for name in ("first", "second")
        )
        short, long = Stream(first, 24), Stream(second, 72)
        answers = [threads.submit(stream.read) for stream in (short, long)]
        assert all(stream.begun.wait(100) for stream in (short, long))
        read_present(events)
        third = threads.submit(pool.ensure, "third", runtime_model=smollm2)
        queued = wait_for(events, "third", ServerState.QUEUED, "waits for")
        assert queued.queue_position == 1
        ready = third.result(200).server
        assert ready.state is ServerState.READY
        assert all(answer.result(200) for answer in answers), "no answer was cut short"
        totals = next(iter(pool.pages())).totals
        assert totals.memory_budget_bytes == 1700 * MIB
        assert totals.memory_reserved_bytes <= 1700 * MIB


def test_a_hold_keeps_its_model_whoever_needs_the_memory(begin: Begin, smollm2: str) -> None:
    pool = begin('[memory]\nbudget = "1000 MiB"\nqueue_timeout = 2\n[defaults]\ngrace_period = 0\n')
    with pool.hold("held", runtime_model=smollm2, keep_alive=0, holder="the test") as hold:
        before = hold.ready()
        with ThreadPoolExecutor(1) as threads, pool.watch() as events:
            read_present(events)
            waiting = threads.submit(pool.ensure, "other", runtime_model=smollm2, timeout=6)
            wait_for(events, "other", ServerState.QUEUED, "'held'")
            with pytest.raises(ServerInUse, match="the test"):
                pool.evict("held")
            assert waiting.exception(60) is not None
        assert hold.ready().pid == before.pid
        with chat(before) as response:
            assert json.load(response)["choices"]
    assert pool.ensure("other", runtime_model=smollm2, timeout=100).server.state.name == "READY"


def test_direct_requests_without_any_ensure_keep_a_model(begin: Begin, tiny: str) -> None:
    pool = begin(f"[defaults]\nkeep_alive = {KEEP_ALIVE_S}\ngrace_period = 0.2\n")
    server = pool.ensure("direct", runtime_model=tiny).server
    begun, over = threading.Event(), threading.Event()

    def ask() -> None:
        with chat(server, max_tokens=2) as response:
            json.load(response)

    def ask_on() -> float:
        """Ask until it is over and once more; return for how long it was answered."""
        ask()
        first = time.monotonic()
        begun.set()
        while not over.wait(0.3):
            ask()
        ask()
        return time.monotonic() - first

    with ThreadPoolExecutor(1) as threads, pool.watch() as events:
        asking = threads.submit(ask_on)
        asking.add_done_callback(lambda _: begun.set())
        begun.wait()
        try:
            pool.ensure("unused", runtime_model=tiny)
            removed = next(event for event in events if isinstance(event, ServerRemoved))
        finally:
            over.set()
        assert asking.result() > KEEP_ALIVE_S
    assert removed.server.model == "unused"
    assert [(each.model, each.pid) for each in pool.list()] == [("direct", server.pid)]


def measured(pool: PoolClient, model: str) -> Server:
    """The server once its footprint is known."""
    while True:
        found = next(server for server in pool.list() if server.model == model)
        if found.footprint_bytes:
            return found


def standing_by(pool: PoolClient) -> None:
    """Return when a start would be from a standby: what that has done ahead is in its footprint."""
    while not next(pool.pages()).totals.standbys:
        pass


@pytest.mark.parametrize("which", ["tiny", "smollm2"])
def test_what_a_model_will_need_is_known_better_after_each_run(
    begin: Begin, request: pytest.FixtureRequest, which: str
) -> None:
    directory = request.getfixturevalue(which)
    config = f"[memory]\nsample_interval = 0.5\n[models.m]\nruntime_model = '{directory}'\n"
    pool = begin(config)
    (before,) = pool.models()
    assert before.expected_by is Expectation.WEIGHTS
    standing_by(pool)
    server = pool.ensure("m").server
    with chat(server, max_tokens=16) as response:
        json.load(response)
    measured(pool, "m")
    await_idle(server.endpoint)
    (evicted,) = pool.evict("m")
    real = evicted.server.peak_bytes
    assert real <= before.expected_bytes <= 1.5 * real
    (after,) = pool.models()
    assert after.expected_by is Expectation.OBSERVED
    standing_by(pool)
    again = pool.ensure("m").server
    with chat(again, max_tokens=16) as response:
        json.load(response)
    measured(pool, "m")
    await_idle(again.endpoint)
    (evicted,) = pool.evict("m")
    assert abs(after.expected_bytes - evicted.server.peak_bytes) <= 0.15 * evicted.server.peak_bytes


def test_a_model_that_can_never_fit_is_refused_with_the_figures(begin: Begin, smollm2: str) -> None:
    pool = begin('[memory]\nbudget = "300 MiB"\n')
    with pytest.raises(ModelTooLarge) as caught:
        pool.ensure("large", runtime_model=smollm2)
    assert int(caught.value.metadata["budget_bytes"]) == 300 * MIB
    assert int(caught.value.metadata["needed_bytes"]) > 500 * MIB
    assert pool.list() == ()


def test_a_model_is_downloaded_only_if_that_is_asked_for_and_then_served(
    tmp_path: Path, tiny: str
) -> None:
    files = {file.name: file.read_bytes() for file in Path(tiny).iterdir()}
    with fake_hub(files) as hub:
        environment = os.environ | hub.environment(tmp_path / "hub")
        del environment["HF_HUB_OFFLINE"]
        with (
            running(tmp_path / "state", environment=environment) as service,
            PoolClient.connect(service.address) as pool,
        ):
            with pytest.raises(ModelNotOnDisk):
                pool.ensure("org/name")
            assert hub.asked == []
            *_, last = pool.pull("org/name")
            assert last.done == last.total == sum(map(len, files.values()))
            asked = len(hub.asked)
            server = pool.ensure("org/name").server
            with chat(server) as response:
                assert json.load(response)["choices"]
            assert len(hub.asked) == asked, "a start asks the hub nothing"


def test_a_model_that_brings_code_is_refused_unless_it_is_trusted(
    begin: Begin, tiny: str, tmp_path: Path
) -> None:
    marked = tmp_path / "marked"
    shutil.copytree(tiny, marked)
    config = json.loads((marked / "config.json").read_text())
    (marked / "config.json").write_text(json.dumps(config | {"model_file": "evil.py"}))
    (marked / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    pool = begin("")
    with pytest.raises(CodeNotTrusted, match=r"evil\.py"):
        pool.ensure("marked", runtime_model=str(marked))
    assert not (tmp_path / "ran").exists()
