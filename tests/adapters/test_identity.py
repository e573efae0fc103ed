import os
import resource
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.adapters.process import identity as identity_module
from pool_service.adapters.process.identity import (
    ProcessStatus,
    identity_of,
    is_alive,
    is_in_session,
    is_session_leader,
    parse_environ,
    parse_stat,
    session_member_pids,
    variable_of,
    visibility_flaw,
)
from pool_service.core.types import Identity
from tests.under_way import under_way

NO_PID = 2**22 + 1  # above the largest that Linux gives, and macOS


@given(name=st.binary(max_size=16), state=st.sampled_from(b"RSDTtIZX"), start=st.integers(0, 2**63))
def test_a_stat_line_is_read_whatever_the_programs_name(
    name: bytes, state: int, start: int
) -> None:
    fields = b" ".join(b"%d" % number for number in range(18))
    line = b"17 (%s) %c %s %d 5 6 7\n" % (name, state, fields, start)
    assert parse_stat(line) == ProcessStatus(start, is_zombie=state in b"ZX")


def test_this_process_is_alive_and_itself() -> None:
    identity = identity_of(os.getpid())
    assert identity is not None
    assert identity.pid == os.getpid()
    assert is_alive(identity)
    assert identity_of(os.getpid()) == identity


def test_a_pid_that_nobody_has_is_nobodys() -> None:
    assert identity_of(NO_PID) is None
    assert not is_alive(Identity(NO_PID, 0, "boot"))


def test_another_start_or_another_boot_is_another_process() -> None:
    identity = identity_of(os.getpid())
    assert identity is not None
    assert not is_alive(Identity(identity.pid, identity.start_time + 1, identity.boot_id))
    assert not is_alive(Identity(identity.pid, identity.start_time, "another"))


def test_a_variable_is_what_the_process_was_started_with() -> None:
    with under_way({"POOL": "a=b", "AN_POOL": "no"}) as process:
        try:
            assert variable_of(process.pid, "POOL") == "a=b"
            assert variable_of(process.pid, "POO") == ""
        finally:
            process.kill()
    assert variable_of(process.pid, "POOL") is None


def test_of_an_environment_that_is_not_whole_nothing_is_said_of_what_is_missing() -> None:
    assert parse_environ(b"A=1\0POOL=a=b\0", "POOL") == "a=b"
    assert parse_environ(b"AN_POOL=1\0", "POOL") == ""
    assert parse_environ(b"A=1\0POOL=abc", "POOL") is None
    assert parse_environ(b"A=1\0PO", "POOL") is None
    assert parse_environ(b"", "POOL") is None


def test_a_large_environment_is_read_to_its_end() -> None:
    with under_way({"MUCH": "x" * 120_000, "POOL": "end"}) as process:
        assert variable_of(process.pid, "POOL") == "end"
        assert variable_of(process.pid, "POO") == ""
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a descriptor on Linux alone")
def test_where_no_descriptor_is_left_nothing_is_said_of_a_variable() -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            variable_of(os.getppid(), "POOL")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_another_users_hidden_process_is_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: str) -> bytes:
        raise PermissionError

    monkeypatch.setattr(identity_module, "read_file", refuse)
    assert identity_of(os.getpid()) is None
    assert "Mount /proc" in visibility_flaw()


def test_processes_can_be_told_from_each_other_here() -> None:
    assert visibility_flaw() == ""


def test_a_session_has_its_leader_and_its_members() -> None:
    with (
        under_way({}) as leader,
        subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as other,
    ):
        assert is_session_leader(leader.pid)
        assert not is_session_leader(other.pid)
        assert is_in_session(leader.pid, leader.pid)
        assert not is_in_session(other.pid, leader.pid)
        assert session_member_pids(leader.pid) == []
        ours = os.getsid(0)
        assert is_in_session(other.pid, ours)
        assert other.pid in session_member_pids(ours)
        assert ours not in session_member_pids(ours)
        leader.kill()
        other.kill()


def test_a_pid_that_nobody_has_is_in_no_session() -> None:
    assert not is_session_leader(NO_PID)
    assert not is_in_session(NO_PID, NO_PID)


def test_a_zombie_has_an_identity_and_is_not_alive() -> None:
    process = under_way({})
    with process:
        identity = identity_of(process.pid)
        assert identity is not None
        assert is_alive(identity)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined,unused-ignore]
        assert identity_of(process.pid) == identity
        assert not is_alive(identity)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a descriptor on Linux alone")
def test_without_a_descriptor_nothing_is_said_of_a_process() -> None:
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            identity_of(os.getpid())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))
