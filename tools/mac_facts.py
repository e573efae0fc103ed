"""Prints the facts on which the service relies and which only a machine itself can tell.

    .venv/bin/python tools/mac_facts.py [--model DIRECTORY] [--without-runtime]

It is for the first person with a Mac, where nothing of this has run yet; it runs on Linux as
well. One line is one fact: OK, NOT (the service would not work: please report the whole output),
or a figure. The memory's figures are worth having three times: at rest, with `--model` one that
takes half of the memory, and with a browser open. It exits with 1 if a line says NOT.
"""

import os

# Read when grpc is imported; the service sets it, too.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import argparse
import asyncio
import contextlib
import json
import platform
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from pool_service.adapters.memory.footprint import of_process
from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.process.exits import ExitStatus, ExitWatch, exit_watch, wait_for_exit
from pool_service.adapters.process.identity import boot_id, identity_of, is_alive, variable_of
from pool_service.adapters.sockets.connections import port_has_unread_requests
from pool_service.adapters.sockets.libproc_sockets import KnownListener
from pool_service.adapters.sockets.listeners import Listener, listeners
from pool_service.adapters.system.process_settings import raise_descriptor_limit
from pool_service.core.types import Identity
from pool_service_client import PoolClient
from tools.demo.service import RunningService, running

ROOT = Path(__file__).resolve().parent.parent
LAUNCHES, CALLS = 200, 50
SOON_S = 0.01
"""Within which the end of a process is to be told of; the best of some tries counts."""

TRIES = 20
READY_TIMEOUT_S = 300.0
SHOWN_TIMEOUT_S = 5.0
STOP_GRACE_S = 5.0
NOTED = ("POOL_SERVICE_FACT", secrets.token_hex(8))
"""A variable of each child's environment."""

GIB = 1024**3

ASK_METAL = (
    "import json; from pool_service.adapters.children.standby_child import working_set; "
    "print(json.dumps(working_set()))"
)
WRITE_MODEL = (
    "import sys; from pathlib import Path; from tools.demo.checkpoints import write_tiny_llama; "
    "write_tiny_llama(Path(sys.argv[1]))"
)
# A Python, since on macOS a program of Apple's own shows its environment to nobody.
LISTENING = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


class Facts:
    """Prints each as it is found."""

    def __init__(self) -> None:
        self.wrong = 0

    def __call__(self, what: str, holds: bool, told: object = "") -> None:  # noqa: FBT001 - the fact
        self.wrong += not holds
        print(f"{'OK ' if holds else 'NOT'} {what}{f': {told}' if told != '' else ''}", flush=True)

    def tell(self, what: str, told: object) -> None:
        print(f"    {what}: {told}", flush=True)

    @contextmanager
    def of(self, title: str) -> Iterator[None]:
        """Facts of one kind; what breaks in them is one as well."""
        print(f"\n{title}", flush=True)
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are told, too
            self("this could be found out", holds=False, told=f"{type(error).__name__}: {error}")


def main() -> int:
    """Print them all; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, help="the directory of a model; else a tiny one")
    parser.add_argument("--without-runtime", action="store_true", help="start no model")
    options = parser.parse_args()
    facts = Facts()
    with facts.of("The machine"):
        tell_of_machine(facts)
    with facts.of("1. What the kernel says of processes"):
        asyncio.run(tell_of_processes(facts))
        tell_of_sockets(facts)
    with facts.of("2. Processes are started while gRPC works"):
        asyncio.run(tell_of_launches(facts))
    with facts.of("3. Memory"):
        tell_of_memory(facts)
    if not options.without_runtime:
        with facts.of("A model, from a standby and by the plain command"):
            tell_of_models(facts, options.model)
    print(f"\nNot as it should be: {facts.wrong or 'nothing'}.")
    return 1 if facts.wrong else 0


def tell_of_machine(facts: Facts) -> None:
    facts.tell("system", f"{platform.platform()}, {platform.machine()}")
    facts.tell("Python", sys.version.split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    given = raise_descriptor_limit()
    facts("the limit of descriptors is raised", given >= min(hard, 1024), f"{soft} to {given}")
    facts.tell("this boot", boot_id())


# --- processes ---------------------------------------------------------------------------------


@contextmanager
def process(*arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """One that ends with the block."""
    pipe = subprocess.PIPE
    environment = os.environ | dict([NOTED])
    popen = subprocess.Popen(arguments, stdin=pipe, stdout=pipe, text=True, env=environment)
    try:
        yield popen
    finally:
        popen.kill()
        popen.communicate()


def known(pid: int) -> Identity:
    """Return who has this pid. Raises ProcessLookupError."""
    found = identity_of(pid)
    if found is None:
        raise ProcessLookupError(f"the system does not know process {pid}")
    return found


@dataclass(frozen=True, slots=True)
class Life:
    """What was told of a child: while it ran, when it was killed, and when it was reaped."""

    was_alive: bool
    took: float
    end: ExitStatus
    is_dead: bool
    is_known: bool
    is_forgotten: bool


async def tell_of_processes(facts: Facts) -> None:
    watch = exit_watch()
    facts.tell("ends are told of by", type(watch).__name__)
    lives = [await lived(watch) for _ in range(TRIES)]
    best = min(life.took for life in lives)
    facts("the end of a process is told of within 10 ms", best <= SOON_S, f"{best * 1000:.1f} ms")
    facts("it is alive before that", all(life.was_alive for life in lives))
    facts("and afterwards not", all(life.is_dead for life in lives))
    facts("one that was not reaped is known", all(life.is_known for life in lives))
    facts("and one that was is not", all(life.is_forgotten for life in lives))
    facts.tell("how it ended, as the system told", lives[0].end)
    facts.tell("how one ended that is no child", await end_of_grandchild())


async def lived(watch: ExitWatch) -> Life:
    with process("/bin/sleep", "60") as child:
        identity = known(child.pid)
        ending = asyncio.create_task(wait_for_exit(watch, identity))
        # It is being watched then.
        await asyncio.sleep(SOON_S)
        was_alive, began = is_alive(identity), time.monotonic()
        child.kill()
        end = await asyncio.wait_for(ending, SHOWN_TIMEOUT_S)
        took, is_dead = time.monotonic() - began, not is_alive(identity)
        is_known = identity_of(child.pid) == identity
        child.wait()
        return Life(was_alive, took, end, is_dead, is_known, identity_of(child.pid) != identity)


async def end_of_grandchild() -> ExitStatus:
    with process("/bin/sh", "-c", "/bin/sleep 60 & echo $!; wait") as shell:
        assert shell.stdout is not None
        identity = known(int(shell.stdout.readline()))
        ending = asyncio.create_task(wait_for_exit(exit_watch(), identity))
        await asyncio.sleep(SOON_S)
        os.kill(identity.pid, signal.SIGTERM)
        return await asyncio.wait_for(ending, SHOWN_TIMEOUT_S)


def tell_of_sockets(facts: Facts) -> None:
    with process(sys.executable, "-c", LISTENING) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        name, value = NOTED
        facts("the environment of a child is seen", variable_of(child.pid, name) == value)
        found = listeners([child.pid])
        facts("the port of a child is seen", [one.port for one in found] == [port], f"port {port}")
        facts(
            "its footprint is told", of_process(child.pid) > 0, f"{of_process(child.pid):,} bytes"
        )
        if sys.platform == "darwin" and found:
            tell_of_libproc(facts, found[0])


def tell_of_libproc(facts: Facts, listener: Listener) -> None:
    known_listener = KnownListener.at(listener.pid, listener.descriptor)
    facts("a listener is known again", known_listener.listens(), known_listener)
    idle = port_has_unread_requests(listener.port, [listener.pid])
    with socket.create_connection(("127.0.0.1", listener.port)):
        waits = shown(
            lambda: port_has_unread_requests(listener.port, [listener.pid]), SHOWN_TIMEOUT_S
        )
    facts("a connection that waits is seen, and none without one", waits and not idle)


# --- launches ----------------------------------------------------------------------------------


async def tell_of_launches(facts: Facts) -> None:
    with tempfile.TemporaryDirectory(prefix="pool-", dir="/tmp") as directory:
        async with calls_in_flight(f"unix:{directory}/s"):
            codes = [await asyncio.to_thread(launch, directory) for _ in range(LAUNCHES)]
    died = {code: codes.count(code) for code in set(codes) - {7}}
    told = died or f"{LAUNCHES} of {LAUNCHES}"
    facts(f"none of {LAUNCHES} dies before its exec beside {CALLS} calls", not died, told)


def launch(directory: str) -> int:
    """Start one as servers are started; return its exit code."""
    return subprocess.run(
        ("/bin/sh", "-c", "exit 7"),
        cwd=directory,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        check=False,
    ).returncode


@asynccontextmanager
async def calls_in_flight(address: str) -> AsyncIterator[None]:
    """A server of gRPC with streams that are open and calls that come and go."""
    server = grpc.aio.server()
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_insecure_port(address)
    await server.start()
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="")
        streams = [stub.Watch(request) for _ in range(CALLS)]
        for stream in streams:
            await stream.read()

        async def call() -> None:
            while True:
                await stub.Check(request)

        calling = asyncio.create_task(call())
        try:
            yield
        finally:
            calling.cancel()
            for stream in streams:
                stream.cancel()
    await server.stop(STOP_GRACE_S)
    await handlers_ended()


async def handlers_ended() -> None:
    """Wait for the tasks of calls, which can outlive their server by a few steps of the loop.

    gRPC prints a traceback for each that the loop's end cancels.
    """
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


# --- memory ------------------------------------------------------------------------------------


def asked(code: str, *arguments: str) -> str:
    """Return what another Python prints: this one must load no Metal, since it forks."""
    command = (sys.executable, "-c", code, *arguments)
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB"


def tell_of_memory(facts: Facts) -> None:
    machine = machine_memory()
    total, available = machine.total(), machine.available()
    facts("there is memory", 0 < available <= total, f"{gib(available)} of {gib(total)} available")
    facts.tell("available as psutil says", gib(psutil.virtual_memory().available))
    facts.tell("pressured, critical", (machine.pressured(), machine.critical()))
    if sys.platform == "darwin":
        level = subprocess.run(
            ("/usr/sbin/sysctl", "kern.memorystatus_vm_pressure_level", "iogpu.wired_limit_mb"),
            capture_output=True,
            text=True,
            check=False,
        )
        facts.tell("the system says", (level.stdout + level.stderr).replace("\n", "; "))
    rule = machine.default_budget()
    working_set = json.loads(asked(ASK_METAL)).get("working_set", 0)
    facts.tell("default budget before Metal is asked", gib(rule))
    facts.tell("what Metal recommends", gib(working_set) if working_set else "there is no Metal")
    if sys.platform == "darwin":
        facts("Metal recommends a part of the memory", 0 < working_set <= total)
        facts("the rule does not exceed it", rule <= 1.01 * working_set)


# --- models ------------------------------------------------------------------------------------


def tell_of_models(facts: Facts, model: Path | None) -> None:
    with tempfile.TemporaryDirectory(prefix="pool-", dir="/tmp") as name:
        directory = Path(name)
        if model is None:
            model = directory / "tiny"
            asked(WRITE_MODEL, str(model))
        for standby in (1, 0):
            environment = os.environ | {"POOL_SERVICE_STANDBY": str(standby)}
            with running(directory / f"state-{standby}", environment=environment) as service:
                tell_of_model(facts, service, model.absolute(), standby)


def tell_of_model(facts: Facts, service: RunningService, model: Path, standby: int) -> None:
    how = "a standby" if standby else "the plain command"
    with PoolClient.connect(service.address) as client:
        began = time.monotonic()
        if standby:
            warm = shown(lambda: next(client.pages()).totals.standbys == 1, READY_TIMEOUT_S)
            facts("a standby is warm", warm, f"after {time.monotonic() - began:.1f} s")
            budget = next(client.pages()).totals.memory_budget_bytes
            facts.tell("the budget then", "none" if budget is None else gib(budget))
        began = time.monotonic()
        server = client.ensure("fact", runtime_model=str(model), timeout=READY_TIMEOUT_S).server
        facts(f"READY by {how}", holds=True, told=f"after {time.monotonic() - began:.2f} s")
        facts.tell("its footprint", gib(of_process(server.pid)))
        shown_key = {"Authorization": f"Bearer {server.api_key}"}
        status = urllib.request.Request(f"{server.endpoint}/v1/status", headers=shown_key)  # noqa: S310
        with urllib.request.urlopen(status, timeout=10) as answer:  # noqa: S310
            facts.tell("its memory by its own words", json.load(answer).get("metal"))
        began = time.monotonic()
        client.evict("fact")
        facts("stopped", not psutil.pid_exists(server.pid), f"in {time.monotonic() - began:.2f} s")


def shown(holds: Callable[[], bool], timeout: float) -> bool:
    """Return whether it holds within so many seconds."""
    deadline = time.monotonic() + timeout
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
