import asyncio
import errno
import os
import signal
import socket
import threading

import psutil
import pytest

from pool_service.adapters.process import exits, identity, leftover_processes, processes
from pool_service.adapters.process.identity import identity_of, is_alive
from pool_service.adapters.system.event_loop import running_workers
from pool_service.core.server import StopSignal
from pool_service.core.types import ExitReport, Identity
from tests.processes.bench import Bench, Up, child_of_ours, ended, plan, reap


async def stop(bench: Bench, up: Up, by: StopSignal = StopSignal.TERMINATE) -> ExitReport:
    await bench.processes.signal(up.identity, by)
    report = await bench.processes.exited(up.identity)
    await bench.processes.clean_up(up.identity)
    return report


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError:
            return False
    return True


@pytest.mark.parametrize(
    ("by", "end"),
    [
        (StopSignal.TERMINATE, (None, signal.SIGTERM)),
        (StopSignal.INTERRUPT, (0, None)),
        (StopSignal.KILL, (None, signal.SIGKILL)),
    ],
)
async def test_each_signal_ends_a_server_in_its_way(
    bench: Bench, by: StopSignal, end: tuple[int | None, int | None]
) -> None:
    report = await stop(bench, await bench.up(), by)
    assert (report.code, report.signal) == end


async def test_a_signal_reaches_the_whole_group(bench: Bench) -> None:
    up = await bench.up("child=group&ignore=term")
    assert up.child
    os.kill(up.identity.pid, signal.SIGSTOP)  # it can't pass anything on
    await bench.processes.signal(up.identity, StopSignal.KILL)
    await ended(up.child)


async def test_a_signal_outlasts_a_shortage_of_descriptors(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = await bench.up()
    failures = [OSError(errno.EMFILE, "Too many open files")]

    def short(identity: Identity) -> bool:
        if failures:
            raise failures.pop()
        return is_alive(identity)

    monkeypatch.setattr(exits, "_SHORTAGE_PAUSE_S", 0.0)
    monkeypatch.setattr(processes, "is_alive", short)
    await bench.processes.signal(up.identity, StopSignal.TERMINATE)
    assert (await bench.processes.exited(up.identity)).signal == signal.SIGTERM


async def test_a_signal_to_another_process_that_has_the_pid_is_not_sent(bench: Bench) -> None:
    up = await bench.up()
    for other in (
        Identity(up.identity.pid, up.identity.start_time - 1, up.identity.boot_id),
        Identity(up.identity.pid, up.identity.start_time, "another boot"),
    ):
        await bench.processes.signal(other, StopSignal.KILL)
    assert (await stop(bench, up)).signal == signal.SIGTERM


async def test_a_signal_to_a_process_that_is_gone_does_nothing(bench: Bench) -> None:
    up = await bench.up()
    await stop(bench, up)
    await bench.processes.signal(up.identity, StopSignal.TERMINATE)


async def test_a_stopped_process_is_ended_by_the_first_signal(bench: Bench) -> None:
    up = await bench.up()
    os.kill(up.identity.pid, signal.SIGSTOP)
    assert (await stop(bench, up)).signal == signal.SIGTERM


async def test_a_server_that_ignores_sigterm_and_sigint_ends_by_sigkill(bench: Bench) -> None:
    up = await bench.up("ignore=term,int")
    await bench.processes.signal(up.identity, StopSignal.TERMINATE)
    await bench.processes.signal(up.identity, StopSignal.INTERRUPT)
    assert is_alive(up.identity)
    assert (await stop(bench, up, StopSignal.KILL)).signal == signal.SIGKILL


@pytest.mark.parametrize("kind", ["group", "setsid", "bare"])
@pytest.mark.parametrize("ignores", ["", "&child_ignore=term"])
async def test_after_the_cleanup_a_grandchild_is_gone(
    bench: Bench, kind: str, ignores: str
) -> None:
    up = await bench.up(f"child={kind}{ignores}")
    assert up.child
    os.kill(up.identity.pid, signal.SIGKILL)  # to the leader alone
    await bench.processes.exited(up.identity)
    assert is_alive(up.child)
    await bench.processes.clean_up(up.identity)
    assert not is_alive(up.child)


async def test_after_the_cleanup_a_stopped_grandchild_is_gone(bench: Bench) -> None:
    up = await bench.up("child=setsid")
    assert up.child
    os.kill(up.child.pid, signal.SIGSTOP)
    await stop(bench, up)
    assert not is_alive(up.child)


@pytest.mark.parametrize("kind", ["group", "setsid"])
async def test_after_the_cleanup_the_port_that_a_grandchild_kept_is_free(
    bench: Bench, kind: str
) -> None:
    up = await bench.up(f"child={kind}&child_port=1&child_ignore=term")
    os.kill(up.identity.pid, signal.SIGKILL)
    await bench.processes.exited(up.identity)
    assert not is_free(up.port)
    await bench.processes.clean_up(up.identity)
    assert is_free(up.port)


async def test_a_cleanup_leaves_other_servers_and_strangers_alone(bench: Bench) -> None:
    with child_of_ours() as stranger:
        other = await bench.up("child=setsid", model="other")
        assert other.child
        await stop(bench, await bench.up("child=group"))
        bystanders = (identity_of(stranger.pid), other.identity, other.child)
        assert all(identity and is_alive(identity) for identity in bystanders)
        stranger.kill()


async def test_a_group_whose_number_is_not_proven_to_be_the_same_is_left_alone(
    bench: Bench,
) -> None:
    """As when a pid was used again: known members are gone, the group has only others."""
    up = await bench.up("child=bare")
    assert up.child
    os.kill(up.identity.pid, signal.SIGKILL)
    await ended(up.identity)
    reap(up.identity)
    await bench.processes.exited(up.identity)
    await bench.processes.clean_up(up.identity)
    assert is_alive(up.child)
    os.kill(up.child.pid, signal.SIGKILL)


async def test_the_cleanup_of_a_process_without_descendants_or_of_a_stranger_returns(
    bench: Bench,
) -> None:
    identity = await bench.spawn(plan("/bin/true"))
    await bench.processes.exited(identity)
    await bench.processes.clean_up(identity)
    await bench.processes.clean_up(identity)


@pytest.mark.long
async def test_200_rounds_leave_descriptors_threads_and_zombies_as_they_were(
    bench: Bench,
) -> None:
    async def round_of(number: int) -> None:
        await stop(bench, await bench.up(model=f"model-{number % 10}"))

    async def rounds(count: int) -> tuple[int, int, list[psutil.Process]]:
        for start in range(0, count, 10):
            await asyncio.gather(*map(round_of, range(start, start + 10)))
        process = psutil.Process()
        children = [child for child in process.children() if child not in others]
        threads = [thread for thread in threading.enumerate() if thread not in earlier]
        return process.num_fds(), len(threads), children

    # As in the service. Otherwise asyncio adds a thread whenever all its threads are busy.
    asyncio.get_running_loop().set_default_executor(running_workers())
    # Some of an earlier test may end meanwhile.
    earlier = set(threading.enumerate())
    others = psutil.Process().children()
    before = await rounds(20)
    after = await rounds(180)
    assert after == before
    assert after[2] == []
    assert list((bench.state_dir / "work").iterdir()) == []


async def test_leftover_processes_are_not_searched_among_the_other_servers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = await bench.up(), await bench.up(model="other")
    looked_at = set[int]()
    variable_of = identity.variable_of

    def noted(pid: int, name: str) -> str | None:
        looked_at.add(pid)
        return variable_of(pid, name)

    monkeypatch.setattr(leftover_processes, "variable_of", noted)
    await stop(bench, one)
    assert os.getppid() in looked_at
    assert other.identity.pid not in looked_at
