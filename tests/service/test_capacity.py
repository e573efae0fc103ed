"""Capacity, use and the catalogue, with real processes: the service as it is run."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from pool_service_client import (
    ConfigInvalid,
    ExitCause,
    Expectation,
    ModelUnknown,
    PoolClient,
    Server,
    ServerChanged,
    ServerRemoved,
    ServerRole,
    ServerState,
)
from tests.service.conftest import FAKE_RUNTIME, Start
from tests.service.crowd import NEEDS, config_of, crowd
from tools.demo.service import RunningService

ENSURES = int(os.environ.get("CROWD_ENSURES", "600"))
"""How many calls; docs/explanation/reliability.md has the figures of 10,000."""

QUEUE = 16 if "CROWD_ENSURES" in os.environ else 6
"""How many models may wait: in a short run fewer, so that some callers are refused in it, too."""

LONGEST_BY_MEAN = 12.0
"""No caller waits longer than so many times the mean."""

RELOADED_WITHIN = 20.0

RESIDENCY = timedelta(seconds=0.5)
"""For so long whoever was given what grows finds it."""


@pytest.mark.long
@pytest.mark.timeout(1800)
async def test_a_crowd_over_200_models_with_capacity_for_3_is_served_fairly(start: Start) -> None:
    service = start(config_of(200, 3, QUEUE, FAKE_RUNTIME))
    found = await crowd(service.address, models=200, ensures=ENSURES, at_once=24, seed=4)
    print(f"\n{found.figures}")  # shown by pytest's -s
    assert len(found.waits) + len(found.refusals) == ENSURES
    assert found.cut == [], "no server in use was evicted"
    assert 0 < found.most <= 3 * NEEDS
    assert found.refusals
    assert all(error.retry_after for error in found.refusals)
    assert found.longest_by_mean <= LONGEST_BY_MEAN


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether a request got its whole answer, and when it had its connection or got none."""

    whole: bool
    connected: datetime


def ask(server: Server) -> Answer:
    """Ask it something."""
    url = urlsplit(server.endpoint)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=30)
    connected = None
    try:
        connection.connect()
        connected = datetime.now(UTC)
        body = {"model": server.served_model_name, "messages": []}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        response = connection.getresponse()
        whole = response.status == 200 and bool(json.load(response)["choices"])
    except (OSError, http.client.HTTPException, ValueError):
        whole = False
    finally:
        connection.close()
    return Answer(whole, connected or datetime.now(UTC))


@dataclass
class Load:
    """Callers who use a model all the time, until `over`."""

    service: RunningService
    over: threading.Event = field(default_factory=threading.Event)
    failures: list[str] = field(default_factory=list)

    def ensuring(self) -> int:
        """Ensures before each request; how many there were."""
        asked = 0
        with PoolClient.connect(self.service.address) as pool:
            while not self.over.wait(0.02):
                server = pool.ensure("grows").server
                answer = ask(server)
                if not answer.whole:
                    self.failed(server, "ensured", answer, server.last_use_time)
                asked += 1
        return asked

    def holding(self) -> int:
        """Holds once, and goes by what the hold says."""
        asked = 0
        with PoolClient.connect(self.service.address) as pool, pool.hold("grows") as hold:
            while not self.over.wait(0.02):
                server = hold.ready()
                answer = ask(server)
                if not answer.whole:
                    # It stays for its residency from when another took its place.
                    self.failed(server, "held", answer, hold.ready(after=server).ready_time)
                asked += 1
        return asked

    def failed(self, server: Server, how: str, answer: Answer, since: datetime | None) -> None:
        """Count it, unless its caller came when the residency was over that began then."""
        assert since is not None
        if answer.connected - since < RESIDENCY:
            self.failures.append(f"{how} {server.model} #{server.generation}")


def generation_is_ready(pool: PoolClient, generation: int) -> None:
    """Return when the model has had so many processes."""
    with pool.watch() as events:
        for event in events:
            if isinstance(event, ServerChanged) and event.server.model == "grows":
                late = event.server.generation >= generation
                if late and event.server.state is ServerState.READY:
                    return


@pytest.mark.parametrize(
    ("budget", "held"),
    [("2 GB", True), ("115 MB", False)],
    ids=["room for both", "room for one"],
)
def test_a_server_past_its_memory_limit_is_recycled_and_no_request_fails(
    start: Start,
    budget: str,
    held: bool,
) -> None:
    service = start(
        FAKE_RUNTIME + f'[memory]\nbudget = "{budget}"\nsample_interval = 0.2\n'
        f"[defaults]\ngrace_period = {RESIDENCY.total_seconds()}\n"
        "[models.grows]\nruntime_model = 'x?rss=20&grow=0.3&delay=0.002'\n"
        'expected_memory = "60 MB"\nmemory_limit = "80 MB"\n'
    )
    load = Load(service)
    with PoolClient.connect(service.address) as pool, ThreadPoolExecutor(3) as threads:
        works = [load.ensuring, load.ensuring, *([load.holding] if held else [])]
        users = [threads.submit(work) for work in works]
        try:
            generation_is_ready(pool, 4)
            (last,) = (each.last_exit for each in pool.list() if each.role is ServerRole.CURRENT)
        finally:
            load.over.set()
        assert all(user.result() > 10 for user in users)
    assert load.failures == []
    # On a slow machine it outgrows the small budget before its ceiling counts.
    causes = {ExitCause.MEMORY_LIMIT} if held else {ExitCause.MEMORY_LIMIT, ExitCause.PREEMPTED}
    assert last is None or last.cause in causes


# --- holds -----------------------------------------------------------------------------------


def test_a_hold_whose_caller_is_killed_is_released_at_once(
    service: RunningService, pool: PoolClient
) -> None:
    code = (
        "import sys, time; from pool_service_client import PoolClient\n"
        f"pool = PoolClient.connect({service.address!r}); hold = pool.hold('m', keep_alive=0)\n"
        "hold.ready(); print('held', flush=True); time.sleep(1000)"
    )
    with pool.watch() as events:
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as caller:
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"held\n"
            (server,) = pool.list()
            assert server.holds == 1
            caller.kill()
        gone = next(event for event in events if isinstance(event, ServerRemoved))
    assert gone.server.last_exit is not None
    assert gone.server.last_exit.cause is ExitCause.IDLE


def test_what_is_held_comes_again_when_it_is_killed(pool: PoolClient) -> None:
    with pool.hold("m") as hold:
        before = hold.ready()
        os.kill(before.pid, signal.SIGKILL)
        after = next(
            server
            for server in hold
            if server.state is ServerState.READY and server.generation > before.generation
        )
        assert ask(after).whole


# --- the catalogue ---------------------------------------------------------------------------

CATALOGUE = """
[models.one]
runtime_model = "x?tokens=1"
aliases = ["chat"]
[models.two]
runtime_model = "x?tokens=2"
[defaults]
grace_period = 0.1
[service]
only_listed = {only_listed}
"""


def write(service: RunningService, config: str) -> None:
    """Into the file that the service was started with; nothing at all if `config` is empty."""
    text = FAKE_RUNTIME + config if config else ""
    service.log.parent.with_suffix(".toml").write_text(text)


def test_an_alias_is_flipped_by_a_reload_without_an_interruption(start: Start) -> None:
    first = CATALOGUE.format(only_listed="true")
    service = start(FAKE_RUNTIME + first)
    with PoolClient.connect(service.address) as pool:
        assert pool.ensure("chat").server.model == "one"
        pid = pool.ensure("one").server.pid
        pool.ensure("two")
        flipped = first.replace('aliases = ["chat"]', "").replace(
            "[models.two]\n", '[models.two]\naliases = ["chat"]\n'
        )
        write(service, flipped)
        told = pool.reload()
        assert (told.replaced, told.removed, told.restart_needed) == ((), (), ())
        assert pool.ensure("chat").server.model == "two"
        assert pool.ensure("one").server.pid == pid


def test_a_hangup_reads_the_configuration_again_by_difference(start: Start) -> None:
    service = start(FAKE_RUNTIME + CATALOGUE.format(only_listed="false"))
    with PoolClient.connect(service.address) as pool:
        kept = pool.ensure("one").server.pid
        pool.ensure("two")
        changed = CATALOGUE.format(only_listed="true").replace("tokens=2", "tokens=3")
        write(service, changed)
        with pool.watch() as events:
            service.process.send_signal(signal.SIGHUP)
            gone = next(event for event in events if isinstance(event, ServerRemoved))
        assert gone.server.model == "two"
        assert gone.server.last_exit is not None
        assert gone.server.last_exit.cause is ExitCause.RELOADED
        assert pool.ensure("one").server.pid == kept
        assert pool.ensure("two").server.runtime_model == "x?tokens=3"
        with pytest.raises(ModelUnknown):
            pool.ensure("three")


@pytest.mark.parametrize("broken", ["[models.one\n", "[service]\nnonsense = 1\n", ""])
def test_a_bad_file_changes_nothing_and_is_reported(start: Start, broken: str) -> None:
    service = start(FAKE_RUNTIME + CATALOGUE.format(only_listed="true"))
    with PoolClient.connect(service.address) as pool:
        pid = pool.ensure("one").server.pid
        write(service, broken)
        with pytest.raises(ConfigInvalid, match="Nothing was changed"):
            pool.reload()
        assert pool.ensure("chat").server.pid == pid
        with pytest.raises(ModelUnknown):
            pool.ensure("three")


def test_what_is_pinned_and_preloaded_is_there_before_it_is_asked_for(start: Start) -> None:
    config = '[models.early]\nruntime_model = "x"\npreload = true\npinned = true\nkeep_alive = 0\n'
    service = start(FAKE_RUNTIME + config + "[defaults]\ngrace_period = 0\n")
    with PoolClient.connect(service.address) as pool, pool.watch() as events:
        ready = next(
            event.server
            for event in events
            if isinstance(event, ServerChanged) and event.server.state is ServerState.READY
        )
        assert ready.model == "early"
        assert ready.pinned
        assert pool.evict_idle() == ()
        os.kill(ready.pid, signal.SIGKILL)
        again = next(
            event.server
            for event in events
            if isinstance(event, ServerChanged)
            and event.server.state is ServerState.READY
            and event.server.generation == 2
        )
        assert psutil.pid_exists(again.pid)


def test_the_home_model_comes_back_once_the_one_that_took_its_place_is_gone(start: Start) -> None:
    config = """
[service]
home_model = "home"
[memory]
budget = "1 GB"
[defaults]
keep_alive = 0
grace_period = 0
[models.home]
runtime_model = "x"
expected_memory = "600 MB"
[models.guest]
runtime_model = "y"
expected_memory = "600 MB"
"""
    service = start(FAKE_RUNTIME + config)
    with PoolClient.connect(service.address) as pool, pool.watch() as events:
        changes = (event.server for event in events if isinstance(event, ServerChanged))
        ready = (server for server in changes if server.state is ServerState.READY)
        home = next(server for server in ready if server.model == "home")
        assert home.expire_time is None
        with pool.hold("guest"):
            next(server for server in ready if server.model == "guest")
            assert not psutil.pid_exists(home.pid)
        # Its keep alive is 0, so that it ends before the home model may preempt it.
        again = next(server for server in ready if server.model == "home")
        assert again.generation == 2


def test_what_a_model_was_seen_to_need_is_remembered_over_restarts(
    start: Start, tmp_path: Path
) -> None:
    config = "[memory]\nsample_interval = 0.2\n[models.m]\nruntime_model = 'x?rss=50'\n"
    service = start(FAKE_RUNTIME + config)
    with PoolClient.connect(service.address) as pool:
        (before,) = pool.models()
        pool.ensure("m")
        while pool.list()[0].expected_by is not Expectation.OBSERVED:
            pass
        pool.evict("m")
        (after,) = pool.models()
    assert service.stop() == 0
    with PoolClient.connect(start(FAKE_RUNTIME + config).address) as pool:
        (remembered,) = pool.models()
    assert before.expected_bytes > after.expected_bytes == remembered.expected_bytes
    assert 50e6 < remembered.expected_bytes < 80e6


def test_what_was_declared_is_reserved_by_the_next_service_as_well(start: Start) -> None:
    config = "[memory]\nsample_interval = 0.2\n[models.m]\nexpected_memory = '600 MB'\n"
    service = start(FAKE_RUNTIME + config)
    with PoolClient.connect(service.address) as pool:
        pool.ensure("m")
    service.process.kill()
    service.process.wait()
    with PoolClient.connect(start(FAKE_RUNTIME + config).address) as pool:
        while not (server := pool.list()[0]).footprint_bytes:
            pass
    assert (server.expected_bytes, server.expected_by) == (600e6, Expectation.DECLARED)
