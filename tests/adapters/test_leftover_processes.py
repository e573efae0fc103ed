"""Claims about who is found to carry a nonce, and about how what is left of a process ends."""

import os
import secrets
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import psutil
import pytest
from structlog.testing import capture_logs

from pool_service.adapters.process import leftover_processes
from pool_service.adapters.process.exits import exit_watch
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.process.leftover_processes import (
    ProcessTree,
    carriers,
    end_descendants,
    leader_among,
    members_of,
    session_members,
    survivors,
)
from pool_service.core.types import Identity
from tests.under_way import under_way

LONG = 1000.0
Look = Callable[..., dict[int, list[str | None]]]


def identity(pid: int) -> Identity:
    return Identity(pid, pid * 100, "boot")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Sets what each list of pids has, and what each pid tells by turns, the last for ever."""

    def has(*lists: list[int], **told: list[str | None]) -> dict[int, list[str | None]]:
        by_pid = {int(pid[1:]): list(answers) for pid, answers in told.items()}
        asked: dict[int, list[str | None]] = {pid: [] for pid in by_pid}
        listed: Iterator[list[int]] = iter(lists)

        def variable_of(pid: int, _name: str) -> str | None:
            left = by_pid[pid]
            asked[pid].append(left.pop(0) if len(left) > 1 else left[0])
            return asked[pid][-1]

        monkeypatch.setattr("psutil.pids", lambda: next(listed))
        monkeypatch.setattr(leftover_processes, "variable_of", variable_of)
        monkeypatch.setattr(leftover_processes, "identity_of", identity)
        monkeypatch.setattr(leftover_processes, "is_alive", lambda _identity: True)
        return asked

    return has


def test_one_that_is_just_becoming_another_program_is_asked_again(machine: Look) -> None:
    machine([7, 8], [7, 8], p7=[None, "n"], p8=[""])
    assert carriers({"n"}) == {"n": {identity(7)}}


def test_one_that_told_the_nonce_and_is_then_becoming_another_program_is_asked_again(
    machine: Look,
) -> None:
    machine([7], [7], p7=["n", None, "n"])
    assert carriers({"n"}) == {"n": {identity(7)}}


def test_one_whose_parent_ended_before_its_turn_is_found(machine: Look) -> None:
    machine([7], [8], p7=[None], p8=["n"])
    assert carriers({"n"}) == {"n": {identity(8)}}


def test_who_told_something_is_not_asked_again(machine: Look) -> None:
    asked = machine([7, 8, 9], [7, 8, 9], p7=[""], p8=["another"], p9=["n"])
    assert carriers({"n"}) == {"n": {identity(9)}}
    assert asked == {7: [""], 8: ["another"], 9: ["n", "n"]}


def test_one_that_told_the_nonce_and_is_another_by_now_is_not_taken(machine: Look) -> None:
    machine([7], [7], p7=["n", "", ""])
    assert carriers({"n"}) == {}


# --- with real processes ------------------------------------------------------------------


def real(pid: int) -> Identity:
    found = identity_of(pid)
    assert found is not None
    return found


@pytest.fixture
def nonce() -> str:
    return secrets.token_hex(16)


Process = subprocess.Popen


@pytest.fixture
def carrier(nonce: str) -> Iterator["Process[bytes]"]:
    """A process that carries the nonce, and leads a session."""
    with under_way({NONCE_VARIABLE: nonce}) as process:
        yield process
        process.kill()


def test_whoever_carries_the_nonce_is_found_unless_it_is_known_to_be_another(
    nonce: str, carrier: "Process[bytes]"
) -> None:
    assert carriers({nonce}) == {nonce: {real(carrier.pid)}}
    assert carriers({nonce}, {carrier.pid}) == {}
    assert carriers({"another"}) == {}
    assert carriers({nonce, "another"}) == {nonce: {real(carrier.pid)}}


def test_this_process_is_never_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.pids", lambda: [os.getpid()])
    monkeypatch.setattr(leftover_processes, "variable_of", lambda *_: "n")
    assert carriers({"n"}) == {}


def test_the_first_to_lead_a_session_is_the_leader(nonce: str, carrier: "Process[bytes]") -> None:
    with under_way({}) as later, subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as member:
        both = [real(later.pid), real(carrier.pid)]
        first = min(both, key=lambda one: (one.start_time, one.pid))
        assert leader_among([*both, real(member.pid)]) == first
        assert leader_among([real(member.pid)]) is None
        assert leader_among([]) is None
        later.kill()
        member.kill()


def test_a_session_that_a_descendant_leads_is_not_the_leaders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parents = {7: 1, 9: 7, 8: 1}
    monkeypatch.setattr(leftover_processes, "_parent_of", parents.get)
    monkeypatch.setattr(leftover_processes, "is_session_leader", lambda _: True)
    child, leader = Identity(9, 1, "boot"), Identity(7, 5, "boot")
    assert leader_among([child, leader]) == leader
    assert leader_among([leader, Identity(8, 5, "boot")]) == leader


def wait_for_exec(pid: int) -> None:
    """Wait until a forked process is the program `sleep`, with all that the system tells of it.

    While the kernel sets a program up, it tells no environment.
    """
    process = psutil.Process(pid)
    while process.name() != "sleep" or not process.environ():
        os.sched_yield()


@contextmanager
def session(nonce: str) -> Iterator[tuple["Process[bytes]", int]]:
    """A leader, and the pid of a member of its session."""
    with subprocess.Popen(
        ["/bin/sh", "-c", "sleep 1000 & echo $!; read -r line"],
        env={"PATH": os.environ["PATH"], NONCE_VARIABLE: nonce},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as leader:
        assert leader.stdout
        member = int(leader.stdout.readline())
        wait_for_exec(member)
        yield leader, member
        with suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)


def test_members_are_known_while_the_leader_or_its_zombie_is_there(nonce: str) -> None:
    with session(nonce) as (leader, member):
        identity = real(leader.pid)
        members = {real(member)}
        assert members_of(identity) == session_members(leader.pid) == members
        os.kill(leader.pid, signal.SIGKILL)
        assert members_of(identity) == members
        leader.wait()
        assert members_of(identity) == frozenset()
        assert session_members(leader.pid) == members


def test_a_session_survives_if_a_member_is_proven_or_was_known(nonce: str) -> None:
    with session(nonce) as (leader, member):
        identity, stays = real(leader.pid), real(member)
        assert survivors(ProcessTree(leader.pid, nonce)) == {identity, stays}
        others = frozenset({leader.pid, member})
        unknown = ProcessTree(leader.pid, "another", others=others)
        assert survivors(unknown) == frozenset()
        assert survivors(replace(unknown, members=frozenset({stays}))) == {stays}
        assert survivors(ProcessTree(None, "another")) == frozenset()


async def test_what_is_left_is_told_to_end(nonce: str, carrier: "Process[bytes]") -> None:
    with capture_logs() as logs:
        assert not await end_descendants(exit_watch(), ProcessTree(7, nonce), LONG)
    assert carrier.wait() == -signal.SIGTERM
    (line,) = logs
    assert (line["event"], line["pids"]) == (
        "ending descendants of an exited process",
        [carrier.pid],
    )


async def test_what_is_stopped_is_told_to_end_all_the_same(
    nonce: str, carrier: "Process[bytes]"
) -> None:
    carrier.send_signal(signal.SIGSTOP)
    assert not await end_descendants(exit_watch(), ProcessTree(None, nonce), LONG)
    assert carrier.wait() == -signal.SIGTERM


async def test_what_does_not_end_in_time_is_killed(nonce: str) -> None:
    with subprocess.Popen(  # noqa: ASYNC220  # it does not block
        ["/bin/sh", "-c", "trap '' TERM; echo there; read -r line"],
        env={NONCE_VARIABLE: nonce},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        with capture_logs() as logs:
            assert await end_descendants(exit_watch(), ProcessTree(None, nonce), 0.05)
        assert process.wait() == -signal.SIGKILL
    assert [line["log_level"] for line in logs] == ["info", "warning"]
    assert logs[1]["pids"] == [process.pid]


async def test_what_may_not_be_signalled_is_left_alone_and_logged(
    nonce: str, carrier: "Process[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(os, "kill", refused)
        assert not await end_descendants(exit_watch(), ProcessTree(None, nonce), LONG)
    assert carrier.poll() is None
    refusals = [line for line in logs if line["event"].startswith("not permitted to signal")]
    assert [line["pid"] for line in refusals] == [carrier.pid] * 2


def test_a_process_that_is_gone_counts_as_signalled(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise ProcessLookupError

    monkeypatch.setattr(os, "kill", gone)
    assert leftover_processes._signalled(real(os.getpid()), signal.SIGTERM)


async def test_its_requests_are_drained_before_it_is_told_to_end(
    nonce: str, carrier: "Process[bytes]"
) -> None:
    asked = list[frozenset[Identity]]()

    async def drained(left: frozenset[Identity]) -> frozenset[Identity]:
        asked.append(left)
        return frozenset()

    assert not await end_descendants(exit_watch(), ProcessTree(None, nonce), LONG, drained)
    assert asked == [{real(carrier.pid)}]
    assert carrier.poll() is None, "nothing was left of it"
    assert not await end_descendants(exit_watch(), ProcessTree(None, "another"), LONG, drained)
    assert len(asked) == 1, "nothing was left"
