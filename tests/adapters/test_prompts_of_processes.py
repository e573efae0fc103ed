"""Prompts that processes write as they end: kept after a clean end, and after no other."""

import asyncio
import json
import os
import signal
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.children.kept_prompts import (
    ALLOWED,
    MANIFEST,
    REPORT,
    REPORT_FORMAT,
    SAVED,
    UNKNOWN,
)
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.process.processes import Delays, LocalProcesses
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.records.records import FileRecords
from pool_service.core.server import Phase, Server, StopSignal
from pool_service.core.types import Identity, LaunchPlan, Settings
from pool_service.guard.orphans import _end_until_sigterm
from tests.adapters.process_machine import LONG, Machine, shell
from tests.adapters.prompt_servers import KEY, keep

pytestmark = pytest.mark.process

BOUND = 1_000_000
MANIFEST_OF_ONE = {
    "version": 1,
    "entries": [{"files": {"entry_0.safetensors": 4}, "tokens": 7}],
    "indexes": {},
}

WRITES = f"""
trap 'mkdir {SAVED} && printf kept > {SAVED}/entry_0.safetensors && touch written
if test -e stuck; then while :; do sleep 0.01; done; fi
cat {ALLOWED} > ../allowed; printf "%s" '\\''{json.dumps(MANIFEST_OF_ONE)}'\\'' > {SAVED}/{MANIFEST}
exit 0' TERM
touch up
sleep 1000 & wait
"""
"""Writes its prompts when it is told to end; where a file `stuck` is, it never comes to an end."""


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    the_machine = Machine(tmp_path)
    use(the_machine)
    yield the_machine
    await the_machine.close()
    store_of(the_machine).close()


def use(machine: Machine) -> None:
    """Let the processes of a machine keep their prompts."""
    store = PromptStore(machine.state_dir, 10 * BOUND)
    machine.processes = LocalProcesses(
        machine.state_dir,
        machine.logs,
        prompts=store,
        delays=Delays(term_timeout_s=LONG, rescan_s=0.0),
    )


def store_of(machine: Machine) -> PromptStore:
    return machine.processes._prompts


async def there(path: Path) -> None:
    while not path.exists():  # noqa: ASYNC110, ASYNC240  # nothing tells of it
        await asyncio.sleep(0.005)


async def started(machine: Machine) -> tuple[Identity, LaunchPlan, Path]:
    place = store_of(machine).find("m", KEY, BOUND)
    plan = replace(shell(WRITES), prompt_cache=place, drains=True)
    identity = await machine.spawn(plan)
    work_dir = work_dirs(machine.state_dir) / plan.nonce
    await there(work_dir / "up")
    (work_dir / REPORT).write_bytes(struct.pack(REPORT_FORMAT, 0, UNKNOWN))
    return identity, plan, work_dir


async def ended(machine: Machine, identity: Identity) -> int:
    """Wait for the end of a process; return the tokens that are kept afterwards."""
    await machine.processes.exited(identity)
    await machine.processes.clean_up(identity)
    return store_of(machine).find("m", KEY, BOUND).tokens


async def test_what_a_process_writes_when_it_is_told_to_end_is_kept(machine: Machine) -> None:
    identity, _, work_dir = await started(machine)
    await machine.processes.signal(identity, StopSignal.TERMINATE)
    assert await ended(machine, identity) == 7
    assert (work_dir.parent / "allowed").read_text() == str(BOUND)


async def test_a_process_that_is_killed_while_it_writes_keeps_nothing(machine: Machine) -> None:
    identity, _, work_dir = await started(machine)
    (work_dir / "stuck").touch()
    await machine.processes.signal(identity, StopSignal.TERMINATE)
    await there(work_dir / "written")
    await machine.processes.signal(identity, StopSignal.KILL)
    assert await ended(machine, identity) == 0
    assert not work_dir.exists()


@pytest.mark.parametrize("end", ["while it serves", "while nobody does"])
async def test_a_process_that_another_service_has_started_keeps_its_prompts(
    machine: Machine, end: str
) -> None:
    identity, plan, work_dir = await started(machine)
    server = Server("m", Settings("m"), Phase.READY, 1, 0.0, 0.0, 0.0, plan=plan)
    server = replace(server, identity=identity)
    if end == "while nobody does":
        await machine.processes.signal(identity, StopSignal.TERMINATE)
        await there(work_dir / SAVED / MANIFEST)
        await machine.processes.exited(identity)
    store_of(machine).close()
    earlier = machine.processes
    use(machine)
    adopted = await machine.processes.adopt(server)
    assert adopted is not None
    if end == "while it serves":
        await machine.processes.signal(identity, StopSignal.TERMINATE)
    assert await ended(machine, identity) == 7
    popen = earlier._owned[identity].popen
    assert popen is not None
    popen.wait()


async def test_a_process_that_dies_by_itself_keeps_nothing(machine: Machine) -> None:
    identity, _, _ = await started(machine)
    os.killpg(identity.pid, signal.SIGKILL)
    assert await ended(machine, identity) == 0


async def test_the_guard_keeps_what_a_server_writes_and_removes_no_others(machine: Machine) -> None:
    keep(store_of(machine), machine.state_dir, model="other")
    store_of(machine).flush()
    identity, plan, _ = await started(machine)
    server = Server("m", Settings("m"), Phase.READY, 1, 0.0, 0.0, 0.0, plan=plan, ready_at=0.0)
    records = FileRecords(machine.state_dir)
    await records.load()
    records.put(replace(server, identity=identity))
    await records.settled()
    await records.close()
    await _end_until_sigterm(machine.state_dir)
    popen = machine.processes._owned[identity].popen
    assert popen is not None
    popen.wait()
    later = PromptStore(machine.state_dir, 10 * BOUND)
    assert [later.find(model, KEY, BOUND).tokens for model in ("m", "other")] == [7, 7]
    later.close()
