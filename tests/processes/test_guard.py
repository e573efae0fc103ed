"""The real guard, and a service that is killed."""

import asyncio
import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.records.records import FileRecords
from pool_service.adapters.state_dir import guard_keeper, guard_lock
from pool_service.adapters.state_dir.directory_lock import StateDir, StateDirHeld
from pool_service.adapters.state_dir.guard_keeper import GuardKeeper
from pool_service.adapters.state_dir.guard_lock import take_over
from pool_service.adapters.state_dir.takeover import take
from pool_service.adapters.system import own_files
from pool_service.core.server import Cause
from pool_service.core.types import Identity
from tests.processes.bench import child_of_ours, ended, first_line, until
from tests.processes.guarded import LONG, SOON, Pool, Running, Service, known
from tests.processes.test_spawn import limit

TWICE = 2
HURRIED = {"drain_timeout": 0.1, "stop_timeout": 0.1}

# Says that it was told to end, and drains for ever; ignores all but the first SIGTERM.
DRAINS = """
import os, signal, sys
def tell(path):
    with open(path, "w") as fifo:
        fifo.write("0 0")
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: tell(sys.argv[2]))
tell(sys.argv[1])
while True:
    signal.pause()
"""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[Pool]:
    the_pool = Pool(tmp_path)
    yield the_pool
    await the_pool.close()


async def test_without_a_successor_all_is_stopped_and_the_guard_ends(pool: Pool) -> None:
    service = await pool.service(SOON)
    servers = [await service.start(f"m{number}") for number in range(3)]
    await service.kill()
    for server in servers:
        await ended(server.identity)
    await ended(service.guard)
    assert pool.processes() == []
    assert all("Shutting down" in server.log_path.read_text() for server in servers)
    assert await pool.ends() == {f"m{number}": (7, Cause.ORPHANED) for number in range(3)}


async def test_servers_that_were_kept_are_stopped_if_no_service_comes(pool: Pool) -> None:
    service = await pool.service(SOON)
    await service.start("kept")
    await service.leave()
    await ended(service.guard)
    assert pool.processes() == []
    assert await pool.ends() == {"kept": (7, Cause.ORPHANED)}


async def test_a_stream_in_flight_is_not_cut_short(pool: Pool) -> None:
    service = await pool.service(SOON)
    go = pool.root / "go"
    server = await service.start("m", f"answers_until={go}")
    asked = {"model": await served_model(server.port), "messages": [], "stream": True}
    body = json.dumps(asked | {"max_tokens": 40})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body.encode())
    await reader.readuntil(b"t0 ")
    await service.kill()
    await until(lambda: "Waiting for connections to close" in server.log_path.read_text())
    go.touch()
    rest = await reader.read()
    writer.close()
    assert b"t39 " in rest
    assert rest.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    await ended(service.guard)
    assert pool.processes() == []


async def test_a_stream_is_not_cut_though_the_runtime_would_cut_it(pool: Pool) -> None:
    service = await pool.service(SOON)
    go = pool.root / "go"
    server = await service.start("m", f"answers_until={go}&delay=0.05&cuts=1")
    asked = {"model": await served_model(server.port), "messages": [], "stream": True}
    body = json.dumps(asked | {"max_tokens": 40})
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**24)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body.encode())
    await reader.readuntil(b"t0 ")
    await service.kill()
    await until(lambda: "no service came" in pool.guard_log())
    go.touch()
    rest = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert b"t39 " in rest
    assert is_alive(server.identity)
    writer.close()
    await ended(server.identity)
    await ended(service.guard)
    assert pool.processes() == []


async def served_model(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    name = json.loads(await reader.readuntil(b"]}"))["data"][0]["id"]
    writer.close()
    return str(name)


async def test_a_successor_finds_everything_untouched_and_has_the_one_guard(pool: Pool) -> None:
    first = await pool.service(LONG)
    server = await first.start("m")
    await first.kill()
    second = await pool.service(LONG)
    await ended(first.guard)
    assert is_alive(second.guard)
    assert len(pool.guards()) == 1
    assert is_alive(server.identity)
    assert "Shutting down" not in server.log_path.read_text()


async def test_a_successor_that_dies_is_followed_by_its_own_guard(pool: Pool) -> None:
    first = await pool.service(LONG)
    server = await first.start("m")
    await first.kill()
    second = await pool.service(SOON)
    await second.kill()
    await ended(second.guard)
    await ended(server.identity)
    assert pool.processes() == []


async def test_a_successor_that_is_too_quick_for_its_guard_is_seen_all_the_same(
    pool: Pool,
) -> None:
    service = await pool.service(SOON)
    server = await service.start("m")
    os.kill(service.guard.pid, signal.SIGSTOP)
    await service.kill()
    # As if a successor had the state directory and had no guard yet.
    with StateDir(pool.state_dir):
        os.kill(service.guard.pid, signal.SIGCONT)
        ending = asyncio.create_task(ended(service.guard))
        done, _ = await asyncio.wait({ending}, timeout=10 * SOON)
        assert not done
        assert is_alive(server.identity)
    await ending
    assert pool.processes() == []


async def test_a_killed_guard_is_followed_by_another(pool: Pool) -> None:
    service = await pool.service(SOON)
    await service.answer("guard")
    server = await service.start("m")
    os.kill(service.guard.pid, signal.SIGKILL)
    guard = known((await service.answer("guard"))["guard"])
    assert guard != service.guard
    await service.kill()
    await ended(guard)
    assert not is_alive(server.identity)
    assert pool.processes() == []


async def test_a_guard_that_a_person_ends_is_followed_by_another(pool: Pool) -> None:
    service = await pool.service(LONG)
    await pool.guarding(service.guard)
    os.kill(service.guard.pid, signal.SIGTERM)
    await ended(service.guard)
    await until(lambda: len(pool.guards()) == 1)


async def test_the_guard_outlives_what_ends_the_services_terminal(pool: Pool) -> None:
    first = await pool.service(LONG)
    await first.kill()
    service = await pool.service(SOON)
    # Sent away by the second one, which so is known to be up.
    await ended(first.guard)
    assert os.getsid(service.guard.pid) == service.guard.pid
    server = await service.start("m")
    for number in (signal.SIGHUP, signal.SIGINT):
        os.kill(service.guard.pid, number)
    await service.kill()
    await ended(server.identity)
    await ended(service.guard)
    assert "no service came" in pool.guard_log()


async def test_a_service_that_stopped_its_servers_leaves_no_guard(pool: Pool) -> None:
    service = await pool.service(LONG)
    await service.order(do="dismiss")
    await service.answer("dismissed")
    assert not is_alive(service.guard)
    assert pool.guards() == []


async def test_a_service_that_ends_before_its_guard_runs_leaves_no_earlier_guard_either(
    pool: Pool,
) -> None:
    first = await pool.service(LONG)
    await pool.guarding(first.guard)
    await first.kill()
    second = await pool.service(LONG)
    # At once: its guard has not yet sent the earlier one away.
    await second.order(do="dismiss")
    await second.answer("dismissed")
    assert pool.guards() == []


async def test_a_guard_that_comes_late_leaves_the_guard_of_the_next_service_alone(
    pool: Pool,
) -> None:
    first = await pool.service(LONG)
    os.kill(first.guard.pid, signal.SIGSTOP)
    await first.kill()
    second = await pool.service(LONG)
    await pool.guarding(second.guard)
    go_on(first.guard)
    await ended(first.guard)
    assert is_alive(second.guard)


async def test_a_guard_that_comes_after_all_was_stopped_ends_at_once(pool: Pool) -> None:
    first = await pool.service(LONG)
    os.kill(first.guard.pid, signal.SIGSTOP)
    await first.kill()
    second = await pool.service(LONG)
    await second.order(do="dismiss")
    await second.answer("dismissed")
    go_on(first.guard)
    await ended(first.guard)


def go_on(guard: Identity) -> None:
    """Let a guard go on that was stopped; where it had the lock by then it has been sent away."""
    with suppress(ProcessLookupError):
        os.kill(guard.pid, signal.SIGCONT)


async def test_a_service_that_has_no_guard_at_its_end_leaves_no_earlier_one(pool: Pool) -> None:
    first = await pool.service(LONG)
    await pool.guarding(first.guard)
    os.kill(first.guard.pid, signal.SIGSTOP)
    await first.kill()
    async with GuardKeeper(pool.state_dir, LONG, first_pause_s=LONG) as keeper:
        assert keeper.guard_pid is not None
        os.kill(keeper.guard_pid, signal.SIGKILL)
        await until(lambda: keeper.guard_pid is None)
        await keeper.dismiss()
    assert pool.guards() == []


async def test_a_guard_comes_when_descriptors_are_there_again(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, shortage = asyncio.Event(), ExitStack()

    def open_own(path: Path, flags: int) -> int:
        if not tried.is_set():
            shortage.enter_context(limit(resource.RLIMIT_NOFILE, 0))
        tried.set()
        return own_files.open_own(path, flags)

    pool.state_dir.mkdir(exist_ok=True)
    async with GuardKeeper(pool.state_dir, LONG, first_pause_s=0.01, max_pause_s=0.01) as keeper:
        first = keeper.guard_pid
        assert first is not None
        monkeypatch.setattr(guard_keeper, "open_own", open_own)
        with shortage:
            os.kill(first, signal.SIGKILL)
            await tried.wait()
        await until(lambda: keeper.guard_pid not in (None, first))
        await keeper.dismiss()
    assert pool.guards() == []


async def test_a_guard_that_is_stopped_by_sigstop_can_be_ended(pool: Pool) -> None:
    service = await pool.service(LONG)
    os.kill(service.guard.pid, signal.SIGSTOP)
    await service.order(do="dismiss")
    await service.answer("dismissed")
    assert pool.guards() == []


async def test_with_no_grace_there_is_no_guard_also_not_an_earlier_one(pool: Pool) -> None:
    first = await pool.service(LONG)
    server = await first.start("m")
    await pool.guarding(first.guard)
    await first.kill()
    await pool.service(0.0)
    await ended(first.guard)
    assert pool.guards() == []
    assert is_alive(server.identity)


async def test_a_strangers_process_is_never_signalled(pool: Pool) -> None:
    with child_of_ours() as stranger:
        service = await pool.service(SOON)
        server = await service.start("m", stranger=stranger.pid)
        await service.kill()
        await ended(service.guard)
        assert stranger.poll() is None
        # The one that was started carries the nonce, and that is proof.
        assert not is_alive(server.identity)
        stranger.kill()


@pytest.mark.parametrize("kind", ["group", "setsid", "bare"])
async def test_grandchildren_are_gone_too(pool: Pool, kind: str) -> None:
    service = await pool.service(SOON)
    server = await service.start("m", f"child={kind}&child_ignore=term")
    assert server.child is not None
    await service.kill()
    await ended(service.guard)
    assert not is_alive(server.child)
    assert pool.processes() == []


async def test_a_server_that_will_not_end_is_killed_at_its_limit(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await service.start("m", "ignore=term,int", limits=HURRIED)
    await service.kill()
    await ended(service.guard)
    assert not is_alive(server.identity)
    signals = [line for line in pool.guard_log().splitlines() if "signal=" in line]
    assert [line.partition("signal=")[2].split()[0] for line in signals] == [
        "SIGTERM",
        "SIGINT",
        "SIGKILL",
    ]
    assert await pool.ends() == {"m": (7, Cause.ORPHANED)}


async def test_a_process_whose_record_was_never_finished_is_found(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await service.start("m", unfinished=True)
    await service.kill()
    await ended(service.guard)
    assert not is_alive(server.identity)
    assert pool.processes() == []


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{")])
async def test_a_process_whose_record_is_lost_is_found(
    pool: Pool, damage: Callable[[Path], object]
) -> None:
    service = await pool.service(SOON)
    server = await service.start("m")
    (record,) = (pool.state_dir / "servers").glob("*.json")
    damage(record)
    await service.kill()
    await ended(service.guard)
    assert not is_alive(server.identity)
    assert pool.processes() == []


async def test_what_stands_in_place_of_the_lock_does_not_save_orphans(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await service.start("m")
    (pool.state_dir / "lock").unlink()
    (pool.state_dir / "lock").mkdir()
    await service.kill()
    await ended(service.guard)
    assert not is_alive(server.identity)


async def test_a_directory_that_others_may_write_is_not_trusted(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await service.start("m")
    pool.state_dir.chmod(0o777)
    await service.kill()
    await ended(service.guard)
    assert "cannot be trusted" in pool.guard_log()
    assert is_alive(server.identity)


async def test_a_state_directory_that_was_removed_is_not_made_again(pool: Pool) -> None:
    service = await pool.service(SOON)
    await pool.guarding(service.guard)
    shutil.rmtree(pool.state_dir)
    await service.kill()
    await ended(service.guard)
    assert not pool.state_dir.exists()


async def test_a_server_that_died_before_is_not_said_to_be_orphaned(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await service.start("m")
    os.kill(server.identity.pid, signal.SIGKILL)
    await ended(server.identity)
    await service.kill()
    await ended(service.guard)
    assert await pool.ends() == {"m": (7, Cause.CRASHED)}


async def draining(pool: Pool, service: Service) -> Running:
    """A server of which the guard waits that it has drained."""
    told = pool.root / "told"
    os.mkfifo(told)
    argv = (sys.executable, "-S", "-c", DRAINS, str(pool.root / "up-m"), str(told))
    server = await service.start("m", argv=argv)
    await service.kill()
    await first_line(told)
    return server


async def test_a_service_that_comes_while_servers_are_stopped_sends_the_guard_away(
    pool: Pool,
) -> None:
    service = await pool.service(SOON)
    server = await draining(pool, service)
    with pytest.raises(StateDirHeld, match=rf"pid {service.guard.pid} is the guard, which stops"):
        StateDir(pool.state_dir)
    with await asyncio.to_thread(take, pool.state_dir):
        await ended(service.guard)
        assert is_alive(server.identity)
        remembered = await FileRecords(pool.state_dir).load()
        assert [one.stop_cause for one in remembered.servers] == [Cause.ORPHANED]


async def test_a_guard_that_is_stopped_while_it_drains_keeps_no_service_out(pool: Pool) -> None:
    service = await pool.service(SOON)
    await draining(pool, service)
    os.kill(service.guard.pid, signal.SIGSTOP)
    with await asyncio.to_thread(take, pool.state_dir):
        await ended(service.guard)


async def test_of_two_services_that_come_while_the_guard_drains_one_has_the_directory(
    pool: Pool,
) -> None:
    service = await pool.service(SOON)
    await draining(pool, service)
    came = await asyncio.gather(
        *(asyncio.to_thread(take, pool.state_dir) for _ in range(2)), return_exceptions=True
    )
    assert {type(one) for one in came} == {StateDir, StateDirHeld}
    for one in came:
        if isinstance(one, StateDir):
            one.close()


async def test_when_service_and_guard_die_together_all_is_stopped_all_the_same(pool: Pool) -> None:
    service = await pool.service(SOON)
    await service.answer("guard")
    servers = [await service.start(f"m{number}") for number in range(3)]
    os.kill(service.guard.pid, signal.SIGKILL)
    await service.kill()
    for server in servers:
        await ended(server.identity)
    await until(lambda: pool.processes() == [])
    assert await pool.ends() == {f"m{number}": (7, Cause.ORPHANED) for number in range(3)}


async def test_a_guard_that_is_killed_while_it_stops_servers_is_followed(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await draining(pool, service)
    os.kill(service.guard.pid, signal.SIGKILL)
    await until(lambda: pool.guard_log().count("no service came") == TWICE)
    assert is_alive(server.identity)
    os.kill(server.identity.pid, signal.SIGKILL)
    await until(lambda: pool.processes() == [])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_service_that_dies_between_two_guards_leaves_nothing(
    pool: Pool, how: signal.Signals
) -> None:
    """Also where a person, or what tidies up, told the guard to go: the service would not have."""
    service = await pool.service(SOON)
    await pool.guarding(service.guard)
    server = await service.start("m")
    os.kill(service.process.pid, signal.SIGSTOP)
    os.kill(service.guard.pid, how)
    await ended(service.guard)
    await service.kill()
    await ended(server.identity)
    await until(lambda: pool.processes() == [])


async def test_a_sentry_that_is_killed_is_followed_by_another_and_another_guard(pool: Pool) -> None:
    service = await pool.service(SOON)
    await service.answer("guard")
    server = await service.start("m")
    sentry = await pool.sentry()
    sentry.kill()
    await ended(service.guard)
    while (pid := (await service.answer("guard"))["guard"]) == service.guard.pid:
        pass
    guard = known(pid)
    await pool.guarding(guard)
    await pool.sentry()
    os.kill(guard.pid, signal.SIGKILL)
    await service.kill()
    await ended(server.identity)
    await until(lambda: pool.processes() == [])


async def test_with_its_pool_the_sentry_ends(pool: Pool) -> None:
    service = await pool.service(LONG)
    await pool.sentry()
    await service.order(do="dismiss")
    await service.answer("dismissed")
    assert pool.sentries() == []


async def test_a_successor_brings_a_sentry_and_that_of_the_first_ends(pool: Pool) -> None:
    first = await pool.service(LONG)
    old = known((await pool.sentry()).pid)
    await first.kill()
    second = await pool.service(LONG)
    await pool.guarding(second.guard)
    await ended(old)
    await pool.sentry()


async def test_a_person_can_end_the_guard_while_it_stops_servers(pool: Pool) -> None:
    service = await pool.service(SOON)
    server = await draining(pool, service)
    os.kill(service.guard.pid, signal.SIGTERM)
    await ended(service.guard)
    assert is_alive(server.identity)
    remembered = await FileRecords(pool.state_dir).load()
    assert [one.stop_cause for one in remembered.servers] == [Cause.ORPHANED]


async def test_a_note_of_an_earlier_guard_harms_nobody(tmp_path: Path) -> None:
    """Whoever has the lock and has not said so yet is waited for, not its note's pid ended."""
    descriptor = take_over(tmp_path)
    assert descriptor is not None
    with child_of_ours() as stranger:
        identity = known(stranger.pid)
        note = {"pid": identity.pid, "start_time": 1, "boot_id": identity.boot_id}
        (tmp_path / "guard.lock").write_text(json.dumps(note))
        second = asyncio.create_task(asyncio.to_thread(take_over, tmp_path))
        done, _ = await asyncio.wait({second}, timeout=0.1)
        assert not done
        os.close(descriptor)
        assert await second is not None
        assert stranger.poll() is None
        stranger.kill()


async def test_a_guard_that_could_not_say_who_it_is_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk was full when it came."""
    monkeypatch.setattr(guard_lock, "END_TIMEOUT_S", 0.05)
    descriptor = take_over(tmp_path)
    assert descriptor is not None
    (tmp_path / "guard.lock").write_text("")
    with pytest.raises(TimeoutError, match=r"guard\.lock"):
        guard_lock.end_guard(tmp_path, None)
    os.close(descriptor)
    guard_lock.end_guard(tmp_path, None)
