"""Downloads by a shell script in the place of the runtime's Python, and what is made of its end."""

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pool_service.adapters.models import download
from pool_service.adapters.models.download import Downloader, _failure
from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.system import process_settings
from pool_service.core.errors import FetchFailed, ModelRejected, PoolError, RuntimeUnavailable
from pool_service.core.types import Identity
from tests.adapters.descriptor_limits import descriptor_limits

COMMIT = "0" * 40


class Machine:
    """A cache of the hub, and what stands in for the program that downloads into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.python = root / "python"
        self.runs = root / "runs"
        self.downloader = Downloader()
        self.told: list[tuple[int, int]] = []

    def does(self, *lines: str) -> None:
        """Let the program do this; it notes its pid and its arguments first."""
        noted = f'echo $$ "$@" >> {self.runs}'
        self.python.write_text("\n".join(["#!/bin/sh", noted, *lines, ""]))
        self.python.chmod(0o755)

    def is_whole(self, model: str = "org/name") -> None:
        """Put a model into the cache, as the program would."""
        place = self.root / "hub" / f"models--{model.replace('/', '--')}"
        snapshot = place / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (place / "refs").mkdir()
        (place / "refs" / "main").write_text(COMMIT)
        for name in ("config.json", "tokenizer.json", "model.safetensors"):
            (snapshot / name).write_text("{}")

    async def fetch(
        self,
        model: str = "org/name",
        told: Callable[[int, int], None] | None = None,
    ) -> None:
        environment = (("HF_HOME", str(self.root)), ("PATH", os.environ["PATH"]))
        progress = told or (lambda done, total: self.told.append((done, total)))
        await self.downloader.fetch(str(self.python), "m", model, environment, progress)

    def processes(self) -> list[Identity | None]:
        return [identity_of(int(line.split()[0])) for line in self.runs.read_text().splitlines()]

    def count(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


OK = """echo '{"ok": true}'"""
WAITS = "while read -r line; do :; done"


async def begun(told: asyncio.Event, work: "asyncio.Task[None]") -> None:
    """Wait for the first progress; raise what ends the download before it."""
    waiting = asyncio.create_task(told.wait())
    done, _ = await asyncio.wait({waiting, work}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if work in done:
        work.result()


async def test_progress_is_passed_on_and_a_whole_model_is_the_end(machine: Machine) -> None:
    machine.does("""echo '{"done": 1, "total": 2}'""", """echo '{"done": 2, "total": 2}'""", OK)
    machine.is_whole()
    await machine.fetch()
    assert machine.told == [(1, 2), (2, 2)]
    arguments = machine.runs.read_text().split()[1:]
    assert arguments[0] == "-I"
    assert arguments[1].endswith("fetch_child.py")
    assert arguments[2:] == ["org/name"]


async def test_a_path_is_not_downloaded(machine: Machine) -> None:
    machine.does("exit 1")
    await machine.fetch(str(machine.root))
    assert machine.count() == 0


async def test_a_user_without_a_home_is_told_what_to_set(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "hub_cache", lambda _environment: None)
    with pytest.raises(RuntimeUnavailable, match="Set HF_HOME"):
        await machine.fetch()


async def test_a_success_that_leaves_no_whole_model_is_a_refusal(machine: Machine) -> None:
    machine.does(OK)
    with pytest.raises(ModelRejected, match="the model hub has no complete model"):
        await machine.fetch()


OFFLINE = """echo '{"error": "offline", "kind": "offline"}'"""


async def test_offline_a_model_that_is_there_needs_no_download(machine: Machine) -> None:
    machine.does(OFFLINE)
    with pytest.raises(RuntimeUnavailable, match="Unset HF_HUB_OFFLINE"):
        await machine.fetch()
    machine.is_whole()
    await machine.fetch()


async def test_another_failure_is_one_though_the_model_is_there(machine: Machine) -> None:
    machine.is_whole()
    machine.does("""echo '{"error": "no disk", "kind": "disk"}'; exit 1""")
    with pytest.raises(FetchFailed, match="no disk"):
        await machine.fetch()


async def test_a_program_that_ends_without_a_word_is_a_failure(machine: Machine) -> None:
    machine.is_whole()
    machine.does("""echo '{"done": 1, "total": 2}'""")
    with pytest.raises(FetchFailed, match="ended without a message"):
        await machine.fetch()


async def test_a_python_that_is_gone_is_told_as_definite(machine: Machine) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"cannot be run: .*Install the runtime again"):
        await machine.fetch()


async def test_a_python_that_a_shortage_keeps_from_running_may_run_later(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", short)
    with pytest.raises(FetchFailed, match="temporarily"):
        await machine.fetch()


async def test_a_second_caller_is_told_the_last_progress_and_shares_the_program(
    machine: Machine,
) -> None:
    go = machine.root / "go"
    os.mkfifo(go)
    machine.does("""echo '{"done": 1, "total": 2}'""", f"read -r line < {go}", OK)
    machine.is_whole()
    first_told, second_told = asyncio.Event(), list[tuple[int, int]]()
    first = asyncio.create_task(machine.fetch(told=lambda *_: first_told.set()))
    await begun(first_told, first)
    second = asyncio.create_task(
        machine.fetch(told=lambda done, total: second_told.append((done, total)))
    )
    await asyncio.sleep(0)
    assert second_told == [(1, 2)]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await asyncio.to_thread(go.write_text, "\n")
    await second
    assert machine.count() == 1
    await asyncio.gather(
        asyncio.create_task(machine.fetch()), asyncio.to_thread(go.write_text, "\n")
    )
    assert machine.count() == 2, "one that has ended is not shared"


async def test_no_more_than_two_download_at_a_time(machine: Machine) -> None:
    machine.does("""echo '{"done": 1, "total": 2}'""", WAITS, OK)
    told = [asyncio.Event() for _ in range(3)]
    tasks = [
        asyncio.create_task(machine.fetch(f"org/{number}", lambda *_, one=one: one.set()))
        for number, one in enumerate(told)
    ]
    await asyncio.gather(*(begun(*each) for each in zip(told[:2], tasks[:2], strict=True)))
    assert machine.count() == 2
    tasks[0].cancel()
    await begun(told[2], tasks[2])
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize(("program", "killed"), [(WAITS, False), ("exec sleep 1000", True)])
async def test_when_nobody_waits_any_more_the_program_is_told_and_then_killed(
    machine: Machine, program: str, killed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "END_TIMEOUT_S", 0.05 if killed else 60.0)
    told, signals = asyncio.Event(), list[int]()
    kill = os.killpg

    def noted(group: int, number: int) -> None:
        signals.append(number)
        kill(group, number)

    monkeypatch.setattr(os, "killpg", noted)
    machine.does("""echo '{"done": 1, "total": 2}'""", program)
    task = asyncio.create_task(machine.fetch(told=lambda *_: told.set()))
    await begun(told, task)
    (identity,) = machine.processes()
    assert identity is not None
    assert is_alive(identity)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await wait_for_exit(exit_watch(), identity)
    assert signals == ([signal.SIGKILL] if killed else [])


@pytest.mark.parametrize(
    ("kind", "error", "told"),
    [
        ("absent", ModelRejected, "has no such model"),
        ("refused", ModelRejected, "demands a token"),
        ("library", RuntimeUnavailable, "downloaded: why. Install huggingface_hub"),
        ("interpreter", RuntimeUnavailable, "Install the runtime again"),
        ("endpoint", RuntimeUnavailable, "Set HF_ENDPOINT"),
        ("token", RuntimeUnavailable, "Correct HF_TOKEN"),
        ("place", RuntimeUnavailable, "Let the service's user write"),
        ("offline", RuntimeUnavailable, "Unset HF_HUB_OFFLINE"),
        ("disk", FetchFailed, "failed: why. Free some space and try again"),
        ("network", FetchFailed, "failed: why. Check the network"),
        ("other", FetchFailed, "failed: why. Put that right and try again"),
        (None, FetchFailed, "Put that right"),
    ],
)
def test_the_kind_of_a_failure_decides_whether_to_try_again(
    kind: str | None, error: type[PoolError], told: str
) -> None:
    result = {"error": "why."} if kind is None else {"error": "why.", "kind": kind}
    failure = _failure("m", "org/name", result)
    assert type(failure) is error
    assert told in failure.message
    assert "'org/name'" in failure.message
    assert failure.model == "m"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
async def test_the_program_has_the_limits_that_the_service_was_started_with(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_settings, "_given_descriptors", (100, 200))
    machine.does("""echo '{"done": 1, "total": 2}'""", WAITS, OK)
    machine.is_whole()
    told = asyncio.Event()
    task = asyncio.create_task(machine.fetch(told=lambda *_: told.set()))
    await begun(told, task)
    (identity,) = machine.processes()
    assert identity is not None
    assert descriptor_limits(identity.pid) == (100, 200)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
