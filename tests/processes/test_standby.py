import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest

from pool_service.access.server_keys import new_key
from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.launch import NONCE_VARIABLE, work_dirs
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.adapters.standby import process as waiting_adapter
from pool_service.adapters.standby import standbys
from pool_service.adapters.standby.process import CHILD, Standby, StandbySpec
from pool_service.adapters.standby.standbys import Standbys
from pool_service.core.errors import StartFailed
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity, LaunchPlan, Settings, SpawnedProcess
from tests.processes import fake_runtime
from tests.processes.bench import until
from tests.processes.ending import end_all

SETTINGS = Settings(runtime_model="")
LONG = 1000.0
SHORT = 0.1


@dataclass(frozen=True)
class Told:
    """What a server says of itself in the first line of its log."""

    argv: list[str]
    pid: int
    cwd: list[str]
    modules: list[str]
    path: str
    input: str


class Kept:
    """Standbys of a small runtime, and the processes that start from them."""

    def __init__(self, root: Path) -> None:
        self.state_dir = root / "state"
        self.program, self.environment = fake_runtime.install(root)
        self.packages = root / "packages"
        self.notifications = ReadyNotifications()
        self.logs = LogStore(self.state_dir)
        self.working_sets: list[int] = []
        self.standbys = Standbys(
            self._spec, self.state_dir, self.logs, self.notifications, self.working_sets.append
        )
        self.processes = LocalProcesses(
            self.state_dir, self.logs, standbys=self.standbys, delays=Delays(term_timeout_s=0.5)
        )
        self.started: list[Identity] = []
        self.plans: dict[Identity, LaunchPlan] = {}

    async def _spec(self, settings: Settings) -> StandbySpec:
        return StandbySpec(
            str(self.program), self.plan("serve", dict(settings.environment)).environment
        )

    def plan(
        self, request: str, more: dict[str, str] | None = None, *arguments: str, key: str = ""
    ) -> LaunchPlan:
        argv = (str(self.program), "serve", request, *arguments)
        environment = tuple(sorted((self.environment | (more or {})).items()))
        nonce = secrets.token_hex(16)
        plan = LaunchPlan(argv, environment, None, "/health", "x", nonce, kind="vllm-mlx")
        return replace(plan, api_key=key)

    def keep(self, count: int = 1, *, wanted: int = 1, refill: bool = True) -> None:
        self.standbys.keep(SETTINGS, wanted=wanted, allowed=count, refill=refill)

    async def waiting(self) -> Identity:
        """One that has nothing left to do ahead."""
        self.keep()
        await until(lambda: self.standbys.count)
        return self.standbys.identities[0]

    async def spawn(
        self,
        request: str = "serve",
        more: dict[str, str] | None = None,
        *arguments: str,
        key: str = "",
    ) -> SpawnedProcess:
        plan = self.plan(request, more, *arguments, key=key)
        spawned = await self.processes.spawn("x", 1, plan)
        self.started.append(spawned.identity)
        self.plans[spawned.identity] = plan
        return spawned

    def is_plain(self, spawned: SpawnedProcess) -> bool:
        """Return whether the plain command runs, and no process that was told its arguments.

        Not by whether it says that it listens: that is over as soon as it was heard.
        """
        return spawned.nonce == self.plans[spawned.identity].nonce

    async def listening(self, spawned: SpawnedProcess) -> Told:
        """Return when it has said itself that it listens."""
        notification = self.notifications.of(spawned.identity)
        if notification is not None:
            await notification.wait()
        else:
            await until(lambda: "Uvicorn running" in log_of(spawned))
        first, _, rest = log_of(spawned).partition("\n")
        assert "Uvicorn running" in rest
        return Told(**json.loads(first))

    def told_before_it_begins(self) -> Told:
        """Start a process whose arguments are in its socket already; return what it says.

        A service sends them to a process that runs, which may have begun to import by then.
        """
        ours, its = socket.socketpair()
        log = self.state_dir.parent / "told.log"
        with ours, its, log.open("wb") as output:
            order = json.dumps({"argv": [str(self.program), "serve", "fails"]})
            socket.send_fds(ours, [order.encode() + b"\n"], [output.fileno()])
            subprocess.run(
                (sys.executable, str(CHILD), str(self.program)),
                env=self.environment,
                cwd=self.state_dir.parent,
                stdin=its.fileno(),
                check=False,
            )
        return Told(**json.loads(log.read_text().splitlines()[0]))

    async def close(self) -> None:
        await end_all(self.standbys, self.processes, self.started)
        assert list(work_dirs(self.state_dir).glob("*")) == []


def log_of(spawned: SpawnedProcess) -> str:
    return Path(spawned.log_path).read_text()


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    """Standbys of which none is passed over because the machine is busy."""
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", LONG)
    monkeypatch.setattr(standbys, "NEW_TIMEOUT_S", LONG)
    the_kept = Kept(tmp_path)
    yield the_kept
    await the_kept.close()


async def gone(pid: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(pid).wait, 10)


async def test_what_waits_becomes_the_server_that_is_asked_for(kept: Kept) -> None:
    waiting = await kept.waiting()
    spawned = await kept.spawn("serve", None, "--max", "7")
    assert spawned.identity == waiting
    assert spawned.from_standby
    told = await kept.listening(spawned)
    assert told.pid == waiting.pid
    assert told.argv == [str(kept.program), "serve", "serve", "--max", "7"]
    assert told.modules == ["mlx", "mlx_lm"], "imported ahead"
    assert told.cwd == [], "what was rehearsed with is gone"
    assert told.path == str(kept.packages), "not where the service's own code is"


@pytest.mark.parametrize(
    ("environment", "told"),
    [({"WORKING_SET": str(96 * 10**9)}, [96 * 10**9]), ({"WORKING_SET": ""}, []), ({}, [])],
    ids=["Metal", "a Metal that does not tell", "no Metal"],
)
async def test_it_reports_the_working_set_that_metal_recommends(
    kept: Kept, environment: dict[str, str], told: list[int]
) -> None:
    kept.environment |= environment
    await kept.waiting()
    assert kept.working_sets == told


async def test_its_arguments_are_not_in_the_table_of_processes(kept: Kept) -> None:
    await kept.waiting()
    ahead = await kept.spawn("serve", None, "--api-key", "secret-1")
    at_once = await kept.spawn("serve", None, "--api-key", "secret-2")
    for spawned in (ahead, at_once):
        assert "secret" in " ".join((await kept.listening(spawned)).argv)
        assert "secret" not in " ".join(psutil.Process(spawned.identity.pid).cmdline())


@pytest.mark.parametrize("way", ["ahead", "at once", "plain"])
async def test_its_key_is_in_its_arguments_and_where_others_look_it_is_not(
    kept: Kept, way: str
) -> None:
    """Where all users of the machine look, and what inherits the environment of a server."""
    if way == "ahead":
        await kept.waiting()
    kept.keep(1 if way == "ahead" else 0, wanted=int(way != "plain"))
    key = new_key()
    spawned = await kept.spawn("serve", None, "--max", "7", key=key)
    assert (spawned.from_standby, kept.is_plain(spawned)) == (way == "ahead", way == "plain")
    told = await kept.listening(spawned)
    program = str(kept.program)
    assert told.argv == [program, "serve", "--api-key", key, "serve", "--max", "7"]
    process = psutil.Process(spawned.identity.pid)
    assert "psk_" not in " ".join(process.cmdline())
    assert "psk_" not in json.dumps(process.environ())
    assert told.input == ""


async def test_without_a_key_nothing_is_added_to_its_arguments(kept: Kept) -> None:
    kept.keep(0, wanted=0)
    told = await kept.listening(await kept.spawn())
    assert told.argv == [str(kept.program), "serve", "serve"]


async def test_it_is_known_again_by_the_nonce_that_it_was_started_with(kept: Kept) -> None:
    await kept.waiting()
    spawned = await kept.spawn()
    environment = psutil.Process(spawned.identity.pid).environ()
    assert environment[NONCE_VARIABLE] == spawned.nonce
    assert (work_dirs(kept.state_dir) / spawned.nonce).is_dir()


async def test_without_a_waiting_standby_a_new_one_gets_its_arguments_at_once(kept: Kept) -> None:
    kept.keep(0)
    spawned = await kept.spawn()
    assert not kept.is_plain(spawned)
    assert not spawned.from_standby, "it had imported nothing before"
    await kept.listening(spawned)


async def test_a_standby_that_gets_its_arguments_before_it_begins_imports_nothing_ahead(
    kept: Kept,
) -> None:
    told = await asyncio.to_thread(kept.told_before_it_begins)
    assert "mlx" not in told.modules


async def test_switched_off_the_plain_command_runs(kept: Kept) -> None:
    kept.keep(0, wanted=0)
    spawned = await kept.spawn()
    assert kept.is_plain(spawned)
    assert not spawned.from_standby
    await kept.listening(spawned)
    assert psutil.Process(spawned.identity.pid).cmdline()[-2:] == ["serve", "serve"]


async def test_another_environment_is_not_what_it_waits_for(kept: Kept) -> None:
    waiting = await kept.waiting()
    spawned = await kept.spawn("serve", {"HF_HOME": "/elsewhere"})
    await kept.listening(spawned)
    assert spawned.identity != waiting
    assert psutil.Process(spawned.identity.pid).environ()["HF_HOME"] == "/elsewhere"
    assert kept.standbys.identities == (waiting,)


async def test_a_used_standby_is_replaced_on_request(kept: Kept) -> None:
    first = await kept.waiting()
    kept.keep(refill=False)
    await kept.spawn()
    assert kept.standbys.identities == ()
    assert await kept.waiting() != first


async def test_what_is_not_allowed_any_more_is_ended_at_once(kept: Kept) -> None:
    waiting = await kept.waiting()
    kept.keep(0)
    assert kept.standbys.identities == ()
    await gone(waiting.pid)


async def test_what_is_not_needed_any_more_ends_by_itself_and_is_not_killed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, what has used Metal may leave memory taken."""
    monkeypatch.setattr(waiting_adapter, "EXIT_TIMEOUT_S", LONG)
    await kept.waiting()
    (waiting,) = kept.standbys._standbys
    kept.keep(0)
    await kept.standbys.close()
    assert waiting.popen.returncode == 0


async def test_an_upgraded_runtime_is_not_served_by_what_was_imported_before(kept: Kept) -> None:
    waiting = await kept.waiting()
    os.utime(kept.program, (1, 1))
    spawned = await kept.spawn()
    assert spawned.identity != waiting
    await kept.listening(spawned)
    await gone(waiting.pid)


async def test_other_settings_end_what_waits_and_fill_anew(kept: Kept) -> None:
    old = await kept.waiting()
    settings = Settings(runtime_model="", environment=(("HF_HOME", "/elsewhere"),))
    kept.standbys.keep(settings, wanted=1, allowed=1, refill=True)
    await gone(old.pid)
    await until(lambda: kept.standbys.count)
    assert psutil.Process(kept.standbys.identities[0].pid).environ()["HF_HOME"] == "/elsewhere"


async def test_settings_that_change_while_one_gets_ready_are_what_the_next_is_of(
    kept: Kept,
) -> None:
    kept.keep()
    await until(lambda: kept.standbys.identities)
    settings = Settings(runtime_model="", environment=(("HF_HOME", "/elsewhere"),))
    kept.standbys.keep(settings, wanted=1, allowed=1, refill=True)

    def is_of_them() -> bool:
        warm = kept.standbys.count == 1
        pids = [one.pid for one in kept.standbys.identities] if warm else []
        return [psutil.Process(pid).environ().get("HF_HOME") for pid in pids] == ["/elsewhere"]

    await until(is_of_them)


async def test_nothing_waits_for_a_program_that_does_more_than_to_run_vllm_mlx(kept: Kept) -> None:
    kept.program.write_text(kept.program.read_text().replace("\n", " -O\n", 1))
    kept.keep()
    spawned = await kept.spawn()
    assert kept.is_plain(spawned)
    await kept.listening(spawned)
    assert kept.standbys.identities == ()


@pytest.mark.parametrize("module", ["mlx_lm", "vllm_mlx.cli"])
async def test_what_cannot_import_ahead_leaves_it_to_the_plain_command(
    kept: Kept, module: str
) -> None:
    path = kept.packages / f"{module.replace('.', '/')}.py"
    whole = path.read_text()
    path.write_text("raise ImportError('half installed')")
    kept.keep()
    assert kept.standbys._fill_task
    await kept.standbys._fill_task
    assert not kept.standbys.identities
    path.write_text(whole)
    spawned = await kept.spawn()
    assert kept.is_plain(spawned), "nothing is tried again with it"
    await kept.listening(spawned)


async def test_what_waits_and_does_not_answer_is_passed_over(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", SHORT)
    waiting = await kept.waiting()
    os.kill(waiting.pid, signal.SIGSTOP)
    spawned = await kept.spawn()
    assert spawned.identity != waiting
    await kept.listening(spawned)
    await kept.waiting()  # one that was only slow is no reason to keep none


async def test_a_start_does_not_wait_for_the_end_of_what_was_passed_over(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hang in the system for ever."""
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", SHORT)
    waiting = await kept.waiting()
    os.kill(waiting.pid, signal.SIGSTOP)
    may_end, end = threading.Event(), Standby.end

    def ends_late(one: Standby) -> str:
        may_end.wait()
        return end(one)

    monkeypatch.setattr(Standby, "end", ends_late)
    try:
        spawned = await kept.spawn()
        await kept.listening(spawned)
    finally:
        may_end.set()


async def test_what_was_killed_while_it_waited_is_not_missed(kept: Kept) -> None:
    waiting = await kept.waiting()
    os.kill(waiting.pid, signal.SIGKILL)
    await until(lambda: not kept.standbys.identities)
    spawned = await kept.spawn()
    assert not kept.is_plain(spawned)
    await kept.listening(spawned)


async def test_a_model_that_fails_is_reported_as_by_the_plain_command_and_tried_by_it_next(
    kept: Kept,
) -> None:
    await kept.waiting()
    spawned = await kept.spawn("fails")
    report = await kept.processes.exited(spawned.identity)
    assert report.code == 1
    assert report.last_lines[-1] == "ValueError: not like this"
    again = await kept.spawn("serve")
    await until(lambda: psutil.Process(again.identity.pid).cmdline()[-2:] == ["serve", "serve"])
    await kept.listening(again)


async def test_a_load_that_failed_is_not_said_to_be_ready(kept: Kept) -> None:
    await kept.waiting()
    spawned = await kept.spawn("unloaded")
    assert (await kept.processes.exited(spawned.identity)).code == 3
    notification = kept.notifications.of(spawned.identity)
    assert notification is None or not notification.is_set()
    again = await kept.spawn("serve")
    await until(lambda: psutil.Process(again.identity.pid).cmdline()[-2:] == ["serve", "serve"])


async def test_a_load_that_goes_on_is_ended_by_sigterm(kept: Kept) -> None:
    await kept.waiting()
    spawned = await kept.spawn("stuck")
    await until(lambda: "Loading for ever" in log_of(spawned))
    await kept.processes.signal(spawned.identity, StopSignal.TERMINATE)
    assert (await kept.processes.exited(spawned.identity)).signal == signal.SIGTERM


async def test_once_it_listens_sigterm_lets_it_finish(kept: Kept) -> None:
    await kept.waiting()
    spawned = await kept.spawn()
    await kept.listening(spawned)
    await kept.processes.signal(spawned.identity, StopSignal.TERMINATE)
    assert (await kept.processes.exited(spawned.identity)).code == 0


async def test_where_the_log_cannot_be_made_the_start_fails_and_nothing_is_left(
    kept: Kept,
) -> None:
    waiting = await kept.waiting()
    kept.state_dir.joinpath("logs").write_text("no directory")
    with pytest.raises(StartFailed):
        await kept.spawn()
    await gone(waiting.pid)


SERVICE = """
import asyncio, sys
from pathlib import Path
from pool_service.adapters.standby import standbys
from tests.processes.test_standby import LONG, Kept

async def main():
    standbys.WAITING_TIMEOUT_S = standbys.NEW_TIMEOUT_S = LONG
    kept = Kept.__new__(Kept)
    kept.__init__(Path(sys.argv[1]))
    waiting = await kept.waiting()
    print(waiting.pid, flush=True)
    if sys.argv[2:]:
        spawned = await kept.spawn()
        await kept.listening(spawned)
        print(spawned.identity.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def service(root: Path, *more: str) -> Iterator[Callable[[], int]]:
    command = [sys.executable, "-c", SERVICE, str(root), *more]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    told = process.stdout
    try:
        yield lambda: int(told.readline())
    finally:
        process.kill()
        process.communicate()


async def test_killed_service_what_waits_ends_with_it_and_a_server_does_not(
    tmp_path: Path,
) -> None:
    with service(tmp_path) as pid:
        waiting = pid()
    await gone(waiting)
    with service(tmp_path / "second", "serves") as pid:
        _, server = pid(), pid()
    assert psutil.Process(server).is_running()
    state_dir = tmp_path / "second/state"
    found = await LocalProcesses(state_dir, LogStore(state_dir)).orphans(())
    assert [identity.pid for identity in found] == [server]
    os.killpg(server, signal.SIGKILL)
