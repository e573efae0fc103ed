"""Servers that are confined as they start: by a standby, by the plain command, by another program.

What a confined process cannot do is tested in tests/confinement.
"""

import asyncio
import errno
import json
import os
import platform
import py_compile
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.children.confinement import call_filter, landlock
from pool_service.adapters.children.confinement.call_numbers import SECCOMP_NUMBERS
from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.adapters.runtime.registry import diagnose_of
from pool_service.adapters.sandbox.support import LinuxSupport
from pool_service.adapters.sockets.listeners import listeners
from pool_service.adapters.standby import standbys
from pool_service.adapters.standby.process import StandbySpec
from pool_service.adapters.standby.standbys import Standbys
from pool_service.core.types import Diagnosis, Identity, LaunchPlan, Sandbox, Settings
from tests.processes import fake_runtime
from tests.processes.bench import until
from tests.processes.ending import end_all
from tests.sandbox import forbidding

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        bool(landlock.flaw() or call_filter.machine_flaw()),
        reason="needs Landlock, and Linux on x86_64 or aarch64",
    ),
]

LONG = 1000.0
SETTINGS = Settings(runtime_model="")

ACTS = """
import glob, json, os, signal, socket, sys, tempfile, threading

def main():
    threading.Thread(target=signal.pause, daemon=True).start()
    own, *others = sys.argv[2:4]
    def reads(path):
        try:
            return bool(open(path + "/config.json").read())
        except PermissionError:
            return False
    def makes_sockets():
        try:
            socket.socket().close()
        except PermissionError:
            return False
        return True
    def writes(directory):
        try:
            with open(directory + "/new", "w"):
                return True
        except OSError:
            return False
    tasks = os.listdir("/proc/self/task")
    status = [open(f"/proc/self/task/{task}/status").read() for task in tasks]
    descriptors = filter(os.path.exists, glob.glob("/proc/self/fd/*"))
    print(json.dumps({
        "reads_own": reads(own),
        "reads_others": [path for path in others if reads(path)],
        "writes_own": writes(own),
        "writes_here": writes("."),
        "threads": len(status),
        "filtered": sum("Seccomp:\\t2" in text for text in status),
        "temporary": tempfile.gettempdir(),
        "descriptors": [os.readlink(each) for each in descriptors],
        "told": os.environ.get("POOL_SERVICE_SANDBOX"),
        "makes_sockets": makes_sockets(),
        "token": os.environ.get("HF_TOKEN_PATH"),
        "hub": os.environ.get("HF_HUB_CACHE"),
    }), flush=True)
    signal.pause()
"""


class Servers:
    """Servers of a small runtime which tell what they can do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.program, self.environment = fake_runtime.install(root)
        cli = root / "packages" / "vllm_mlx" / "cli.py"
        cli.write_text(ACTS)
        self.environment["HF_HOME"] = str(root / "hf")
        self.models = {name: self._model(name) for name in ("own", "other")}
        self.spec = StandbySpec(str(self.program), tuple(sorted(self.environment.items())))
        self.logs = LogStore(self.state_dir)
        self.standbys = Standbys(self._spec, self.state_dir, self.logs, ReadyNotifications())
        self.processes = LocalProcesses(
            self.state_dir,
            self.logs,
            diagnose_of=diagnose_of,
            standbys=self.standbys,
            delays=Delays(term_timeout_s=0.5),
        )
        self.started: list[Identity] = []

    def _model(self, name: str) -> str:
        directory = self.root / "models" / name
        directory.mkdir(parents=True)
        (directory / "config.json").write_text("{}")
        return str(directory.resolve())

    async def _spec(self, _: Settings) -> StandbySpec:
        return self.spec

    def sandbox(self, *names: str) -> Sandbox:
        readable = (str(self.program), *(self.models[name] for name in names))
        private = (os.path.realpath(self.state_dir), os.path.realpath(self.root / "home"))
        return Sandbox(readable, (0,), private)

    def plan(self, sandbox: Sandbox | None, *more: str) -> LaunchPlan:
        argv = (str(self.program), "serve", self.models["own"], self.models["other"], *more)
        nonce = secrets.token_hex(16)
        plan = LaunchPlan(argv, self.spec.environment, None, "/health", "x", nonce, "vllm-mlx")
        return replace(plan, sandbox=sandbox)

    async def waiting(self, sandbox: Sandbox) -> Identity:
        """A standby with nothing left to do ahead."""
        self.spec = replace(self.spec, sandbox=sandbox)
        self.standbys.keep(SETTINGS, wanted=1, allowed=1, refill=True)
        await until(lambda: self.standbys.count)
        return self.standbys.identities[0]

    async def spawn(self, plan: LaunchPlan) -> tuple[Identity, str]:
        """Start a server; return it and the path of its log."""
        spawned = await self.processes.spawn("x", 1, plan)
        self.started.append(spawned.identity)
        return spawned.identity, spawned.log_path

    async def said(self, plan: LaunchPlan) -> dict[str, Any]:
        """Start a server; return what it says of itself."""
        identity, log_path = await self.spawn(plan)
        await until(lambda: content(log_path).endswith("}\n") or not is_alive(identity))
        assert is_alive(identity), content(log_path)
        said: dict[str, Any] = json.loads(content(log_path))
        return said

    async def close(self) -> None:
        await end_all(self.standbys, self.processes, self.started)
        assert list(work_dirs(self.state_dir).glob("*")) == []


def content(log_path: str) -> str:
    return Path(log_path).read_text()


@pytest.fixture
async def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Servers]:
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", LONG)
    monkeypatch.setattr(standbys, "NEW_TIMEOUT_S", LONG)
    the_servers = Servers(tmp_path)
    yield the_servers
    await the_servers.close()


HOW = ("from a standby", "from a new standby", "by the plain command")


async def started(
    servers: Servers, how: str, sandbox: Sandbox | None, *more: str
) -> dict[str, Any]:
    """Start a server in one of the ways; return what it says."""
    wide = servers.sandbox("own", "other") if sandbox else None
    waiting = None
    if how == "from a standby":
        servers.spec = replace(servers.spec, sandbox=wide)
        servers.standbys.keep(SETTINGS, wanted=1, allowed=1, refill=True)
        await until(lambda: servers.standbys.count)
        waiting = servers.standbys.identities[0]
    elif how == "from a new standby":
        servers.standbys.keep(SETTINGS, wanted=1, allowed=0, refill=False)
    said = await servers.said(servers.plan(sandbox, *more))
    assert waiting in (None, *servers.started)
    return said


@pytest.mark.parametrize("how", HOW)
async def test_a_confined_server_reads_its_model_and_writes_in_its_directory(
    servers: Servers, how: str
) -> None:
    said = await started(servers, how, servers.sandbox("own"))
    assert said["reads_own"]
    assert said["reads_others"] == []
    assert not said["writes_own"]
    assert said["writes_here"]
    assert said["filtered"] == said["threads"] > 1


@pytest.mark.parametrize("how", HOW)
async def test_without_a_sandbox_a_server_has_all_rights(servers: Servers, how: str) -> None:
    said = await started(servers, how, None)
    assert said["reads_own"]
    assert said["reads_others"] == [servers.models["other"]]
    assert said["writes_own"]
    assert said["filtered"] == 0
    assert said["temporary"] == "/tmp"
    assert said["token"] is None


@pytest.mark.parametrize("how", HOW)
async def test_a_confined_server_keeps_what_libraries_write_in_its_directory(
    servers: Servers, how: str
) -> None:
    said = await started(servers, how, servers.sandbox("own"))
    (work_dir,) = work_dirs(servers.state_dir).glob("*")
    assert said["temporary"] == str(work_dir / ".tmp")
    assert said["token"] == "/dev/null"
    assert said["hub"] == str(servers.root / "hf" / "hub")
    assert said["told"] is None


@pytest.mark.parametrize("how", HOW)
async def test_a_confined_server_inherits_no_descriptor_but_its_log_and_its_channel(
    servers: Servers, how: str
) -> None:
    said = await started(servers, how, servers.sandbox("own"))
    log = str(next((servers.state_dir / "logs").rglob("*.log")))
    others = [one for one in said["descriptors"] if one not in ("/dev/null", log)]
    channels = [one for one in others if one.startswith("socket:")]
    assert others == channels
    assert len(channels) == (0 if how == "by the plain command" else 1)


@pytest.mark.parametrize("how", HOW)
async def test_a_confined_server_has_one_socket_to_listen_by_and_makes_no_other(
    servers: Servers, how: str
) -> None:
    address = ("--host", "127.0.0.1", "--port", "0")
    said = await started(servers, how, servers.sandbox("own"), *address)
    assert not said["makes_sockets"]
    sockets = [one for one in said["descriptors"] if one.startswith("socket:")]
    assert len(sockets) == (1 if how == "by the plain command" else 2)


async def test_a_confined_server_listens_by_it(servers: Servers) -> None:
    shutil.rmtree(servers.root / "packages")
    shutil.copytree(Path(fake_runtime.__file__).with_name("packages"), servers.root / "packages")
    argv = (str(servers.program), "serve", "serve", "--host", "127.0.0.1", "--port", "0")
    identity, log_path = await servers.spawn(replace(servers.plan(servers.sandbox()), argv=argv))
    await until(lambda: "Uvicorn running" in content(log_path) or not is_alive(identity))
    said = content(log_path)
    (listener,) = listeners([identity.pid])
    assert said.endswith(f"Uvicorn running on http://127.0.0.1:{listener.port}\n")


async def test_a_standby_that_may_not_read_the_model_does_not_become_its_server(
    servers: Servers,
) -> None:
    waiting = await servers.waiting(servers.sandbox("other"))
    said = await servers.said(servers.plan(servers.sandbox("own")))
    assert said["reads_own"]
    assert said["reads_others"] == []
    assert servers.started != [waiting]


@pytest.mark.parametrize("change", ["made", "replaced"])
async def test_a_standby_from_before_the_model_was_there_does_not_become_its_server(
    servers: Servers, change: str
) -> None:
    store = Path(servers.models["own"]).parent
    aside = store.rename(store.with_name("aside"))
    if change == "replaced":
        store.mkdir()
    sandbox = servers.sandbox()
    waiting = await servers.waiting(replace(sandbox, readable=(*sandbox.readable, str(store))))
    if change == "replaced":
        store.rmdir()
    aside.rename(store)
    said = await servers.said(servers.plan(servers.sandbox("own")))
    assert said["reads_own"]
    assert servers.started != [waiting]


@pytest.mark.parametrize("confined", ["the standby", "the server"])
async def test_a_standby_becomes_no_server_that_is_confined_where_it_is_not(
    servers: Servers, confined: str
) -> None:
    sandbox = servers.sandbox("own", "other")
    if confined == "the standby":
        waiting = await servers.waiting(sandbox)
    else:
        servers.standbys.keep(SETTINGS, wanted=1, allowed=1, refill=True)
        await until(lambda: servers.standbys.count)
        waiting = servers.standbys.identities[0]
    said = await servers.said(servers.plan(sandbox if confined == "the server" else None))
    assert servers.started != [waiting]
    assert bool(said["filtered"]) == (confined == "the server")


async def test_a_server_that_cannot_be_confined_does_not_run(servers: Servers) -> None:
    servers.standbys.keep(SETTINGS, wanted=1, allowed=0, refill=False)
    # Its interpreter's own modules are in there.
    private = (os.path.dirname(os.__file__),)  # noqa: PTH120
    plan = servers.plan(replace(servers.sandbox("own"), private=private))
    identity, log_path = await servers.spawn(plan)
    report = await servers.processes.exited(identity)
    assert report.code == 1
    assert report.diagnosis is Diagnosis.RUNTIME_UNUSABLE
    assert "cannot be confined" in report.message
    assert "reads_own" not in content(log_path)


@pytest.mark.parametrize("kind", ["plain", "vllm-mlx"])
async def test_another_program_is_confined_as_the_same_process(
    servers: Servers, tmp_path: Path, kind: str
) -> None:
    program = tmp_path / "other"
    own, other = servers.models["own"], servers.models["other"]
    program.write_text(
        f"#!/bin/sh\necho $$; cat {own}/config.json; cat {other}/config.json; echo\n"
        "echo > here && ls here; exec sleep 1000\n"
    )
    program.chmod(0o755)
    sandbox = servers.sandbox("own")
    sandbox = replace(sandbox, readable=(*sandbox.readable, str(program)), ports=None)
    plan = replace(servers.plan(sandbox), argv=(str(program),), kind=kind)
    identity, log_path = await servers.spawn(plan)
    await until(lambda: content(log_path).endswith("here\n") or not is_alive(identity))
    pid, read, *_ = content(log_path).splitlines()
    assert int(pid) == identity.pid
    assert read.startswith("{}cat: ")
    assert "ermission denied" in read
    assert is_alive(identity)


HIDES = """
import os, sys

def main():
    tell, end = os.pipe()
    if os.fork():
        os.close(end)
        os.read(tell, 1)
        os._exit(0)
    try:
        os.setsid()
    except PermissionError:
        pass
    os.chdir("/")
    print(os.getpid(), flush=True)
    # Nothing of the service is left in it: no variable, no descriptor, no directory.
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(1, 2)
    sleeping = "import os, signal; os.close(int(os.sys.argv[1])); signal.pause()"
    os.set_inheritable(end, True)
    for one in range(3, 100):
        if one != end:
            try:
                os.close(one)
            except OSError:
                pass
    os.execve(sys.executable, [sys.executable, "-S", "-c", sleeping, str(end)], {})
"""


@pytest.mark.parametrize("is_confined", [True, False])
async def test_nothing_that_a_confined_server_leaves_behind_hides_from_the_service(
    servers: Servers, is_confined: bool
) -> None:
    (servers.root / "packages" / "vllm_mlx" / "cli.py").write_text(HIDES)
    sandbox = servers.sandbox("own") if is_confined else None
    identity, log_path = await servers.spawn(servers.plan(sandbox))
    await servers.processes.exited(identity)
    hidden = identity_of(int(content(log_path)))
    assert hidden is not None
    assert is_alive(hidden)
    await servers.processes.clean_up(identity)
    assert is_alive(hidden) is not is_confined
    if not is_confined:
        os.kill(hidden.pid, signal.SIGKILL)


# --- what this machine can do --------------------------------------------------------------


async def test_this_machine_can_confine_this_interpreter(tmp_path: Path) -> None:
    assert await LinuxSupport().flaw(sys.executable, [str(tmp_path)]) == ""


async def test_an_interpreter_in_a_private_directory_cannot_be_confined() -> None:
    private = os.path.dirname(os.__file__)  # noqa: PTH120
    flaw = await LinuxSupport().flaw(sys.executable, [private])
    assert f"which also holds {private}" in flaw


async def test_what_is_no_python_cannot_be_confined(tmp_path: Path) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert await LinuxSupport().flaw(str(program), []) == "python could not try it"


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        ("landlock", errno.ENOSYS, "this kernel has no Landlock"),
        ("landlock", errno.EOPNOTSUPP, "Landlock is off in this kernel"),
        ("landlock", errno.EPERM, "Landlock is forbidden here (Operation not permitted)"),
        ("filter", errno.EPERM, "its calls cannot be filtered (Operation not permitted)"),
    ],
)
async def test_where_the_kernel_or_another_sandbox_refuses_it_the_reason_is_told(
    tmp_path: Path, call: str, error: int, told: str
) -> None:
    number = SECCOMP_NUMBERS[platform.machine()] if call == "filter" else landlock.CREATE_RULESET
    python = tmp_path / "python"
    command = shlex.join([*forbidding([number], error), sys.executable])
    python.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    python.chmod(0o755)
    assert told in await LinuxSupport().flaw(str(python), [])


@pytest.mark.parametrize("is_there", [False, True])
async def test_the_runtimes_modules_are_compiled_once_by_a_process_that_is_not_confined(
    tmp_path: Path, is_there: bool
) -> None:
    fake_runtime.install(tmp_path)
    packages = tmp_path / "packages"
    for kept in packages.rglob("__pycache__"):
        shutil.rmtree(kept)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={packages} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    if is_there:
        py_compile.compile(str(packages / "vllm_mlx" / "__init__.py"))
    support = LinuxSupport()
    assert await support.flaw(str(python), []) == ""
    compiling = list(support._compiling)
    assert len(compiling) == (0 if is_there else 1)
    await asyncio.gather(*compiling)
    assert bool(list((packages / "vllm_mlx").rglob("cli*.pyc"))) is not is_there
