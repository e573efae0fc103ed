"""The filter's program, run by a small machine: for each architecture, and for calls that no test
should make."""

import errno
import functools
import platform
from collections.abc import Sequence

import pytest

from pool_service.adapters.children.confinement import call_filter
from pool_service.adapters.children.confinement.call_filter import (
    ALLOW,
    RETURN,
    Instruction,
    assemble,
    rules,
)
from pool_service.adapters.children.confinement.call_numbers import ARCHITECTURES, NUMBERS

PID = 4711
MAX_INSTRUCTIONS = 4096
"""BPF_MAXINSNS of Linux."""

HIGH = 1 << 32
EPERM, EACCES, ENOSYS, ENOTTY = (
    RETURN | one for one in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOTTY)
)
machines = pytest.mark.parametrize("machine", ARCHITECTURES)


def verdict(program: Sequence[Instruction], data: bytes) -> int:
    """Return what the program decides about a struct seccomp_data."""
    at, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, constant = program[at]
        at += 1
        if code == call_filter.LOAD:
            accumulator = int.from_bytes(data[constant : constant + 4], "little")
        elif code == call_filter.AND:
            accumulator &= constant
        elif code == call_filter.JUMP_IF_EQUAL:
            at += jump_true if accumulator == constant else jump_false
        elif code == call_filter.JUMP_IF_GREATER_OR_EQUAL:
            at += jump_true if accumulator >= constant else jump_false
        else:
            assert code == call_filter.END
            return constant


@functools.cache
def program_for(machine: str) -> Sequence[Instruction]:
    return assemble(rules(PID), machine)


def decide(machine: str, name: str | int, *arguments: int, architecture: int | None = None) -> int:
    number = name if isinstance(name, int) else NUMBERS[name][list(ARCHITECTURES).index(machine)]
    assert number is not None
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = number.to_bytes(4, "little")
    data += (ARCHITECTURES[machine] if architecture is None else architecture).to_bytes(4, "little")
    data += bytes(8) + b"".join(word.to_bytes(8, "little") for word in words)
    return verdict(program_for(machine), data)


@machines
def test_the_program_is_one_that_the_kernel_takes(machine: str) -> None:
    program = program_for(machine)
    assert len(program) <= MAX_INSTRUCTIONS
    assert program[-1] == Instruction(call_filter.END, 0, 0, ALLOW)
    for at, one in enumerate(program[:-1]):
        assert max(one.jump_true, one.jump_false) <= 255
        assert at + 1 + max(one.jump_true, one.jump_false) < len(program)


@machines
def test_a_call_without_a_rule_is_allowed(machine: str) -> None:
    read = {"x86_64": 0, "aarch64": 63}[machine]
    assert decide(machine, read) == ALLOW


@machines
@pytest.mark.parametrize(("names", "error"), call_filter.UNCONDITIONAL)
def test_some_calls_are_refused_whatever_their_arguments_are(
    machine: str, names: tuple[str, ...], error: int
) -> None:
    column = list(ARCHITECTURES).index(machine)
    there = [name for name in names if NUMBERS[name][column] is not None]
    assert there
    assert {decide(machine, name) for name in there} == {RETURN | error}
    assert {decide(machine, name, PID, 1, 2, 3) for name in there} == {RETURN | error}


@machines
@pytest.mark.parametrize("number", [470, 600, 0x40000000, 0x40000000 | 42, 0xFFFFFFFF])
def test_calls_that_are_newer_or_of_x32_are_absent(machine: str, number: int) -> None:
    assert decide(machine, number) == ENOSYS


@machines
@pytest.mark.parametrize("architecture", [0x40000003, 0x40000028, 0])
def test_calls_of_another_architecture_are_absent(machine: str, architecture: int) -> None:
    assert decide(machine, "kill", PID, architecture=architecture) == ENOSYS


@machines
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((2, 1, 0), ALLOW),
        ((2, 1, 6), ALLOW),
        ((10, 0x80801, 0), ALLOW),  # with SOCK_CLOEXEC and SOCK_NONBLOCK
        ((HIGH | 2, HIGH | 1, HIGH), ALLOW),  # the kernel takes the lower half
        ((2, 2, 0), EACCES),
        ((2, 3, 0), EACCES),
        ((2, 1, 132), EACCES),  # SCTP
        ((2, 1, 262), EACCES),  # MPTCP
        ((1, 1, 0), EACCES),
        ((16, 3, 0), EACCES),
        ((40, 1, 0), EACCES),  # to the host of a virtual machine
        ((38, 5, 0), EACCES),  # cryptography of the kernel
    ],
)
def test_only_tcp_sockets_can_be_made(
    machine: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert decide(machine, "socket", *arguments) == expected


@machines
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("socketpair", (1, 0x80001), ALLOW),
        ("socketpair", (1, 2), EACCES),
        ("socketpair", (1, 5), EACCES),
        ("socketpair", (2, 1), EACCES),
        ("sendto", (3, 1, 1, 0, 0), ALLOW),
        ("sendto", (3, 1, 1, 0x4000, 0), ALLOW),
        ("sendto", (3, 1, 1, 0, 7), EPERM),
        ("sendto", (3, 1, 1, 0, HIGH), EPERM),
        ("sendto", (3, 1, 1, 0x20000000, 0), EPERM),
        ("sendmsg", (3, 1, 0x4000), ALLOW),
        ("sendmsg", (3, 1, 0x20004000), EPERM),
        ("sendmmsg", (3, 1, 1, 0), ALLOW),
        ("sendmmsg", (3, 1, 1, 0x20000000), EPERM),
    ],
)
def test_nothing_is_sent_to_an_address(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert decide(machine, name, *arguments) == expected


@machines
@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_a_process_signals_only_itself(machine: str, name: str) -> None:
    assert decide(machine, name, PID, 15) == ALLOW
    minus_one, its_group = (1 << 64) - 1, (1 << 64) - PID
    for other in (0, 1, PID + 1, minus_one, its_group):
        assert decide(machine, name, other, 15) == EPERM


@machines
@pytest.mark.parametrize("name", call_filter.OF_ONE_PROCESS)
def test_a_process_limits_and_schedules_only_itself(machine: str, name: str) -> None:
    assert decide(machine, name, PID) == decide(machine, name, 0) == ALLOW
    assert decide(machine, name, PID + 1) == EPERM


@machines
@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("setpriority", (0, 0, 19), ALLOW),
        ("setpriority", (0, PID, 19), EPERM),
        ("setpriority", (1, 0, 19), EPERM),  # the group
        ("setpriority", (2, 0, 19), EPERM),  # all processes of the user
        ("ioprio_set", (1, 0), ALLOW),
        ("ioprio_set", (1, PID), EPERM),
        ("ioprio_set", (3, 0), EPERM),
        ("clone", (0x11,), ALLOW),
        ("clone", (0x3D0F00,), ALLOW),  # a thread
        *(
            ("clone", (0x11 | flag,), EPERM)
            for flag in (0x20000, *(1 << bit for bit in range(25, 31)))
        ),
        ("clone", (0x8011,), EPERM),
        ("prctl", (15,), ALLOW),  # a name
        ("prctl", (4, 0), EPERM),
        ("fcntl", (3, 3), ALLOW),
        ("fcntl", (3, 8), EPERM),
        ("fcntl", (3, 15), EPERM),
        ("ioctl", (3, 0x5401), ALLOW),
        ("fcntl", (3, 1024), EPERM),
        *(("ioctl", (3, request), ENOTTY) for request in (0x8901, 0x8902, 0x5412, 0x541C)),
        *(("ioctl", (3, request), ENOTTY) for request in (0x40086602, 0x401C5820, 0x40049409)),
        ("openat", (-100 & 0xFFFFFFFF, 1, 0), ALLOW),
        *(("openat", (3, 1, 0x80000 | flags), ALLOW) for flags in (0, 1, 2, 0x241, 0x200000)),
        *(("openat", (3, 1, 0x80000 | flags), EACCES) for flags in (3, 0x203, 0x200, 0x240)),
    ],
)
def test_some_values_of_arguments_are_refused(
    machine: str, name: str, arguments: tuple[int, ...], expected: int
) -> None:
    assert decide(machine, name, *arguments) == expected


def test_each_number_has_a_rule_and_no_two_calls_have_the_same_number() -> None:
    assert {rule.name for rule in rules(PID)} == NUMBERS.keys() - {"bind"}
    for column in range(len(ARCHITECTURES)):
        numbers = [both[column] for both in NUMBERS.values() if both[column] is not None]
        assert len(numbers) == len(set(numbers))


def test_a_machine_whose_numbers_are_not_known_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert "riscv64" in call_filter.machine_flaw()
    with pytest.raises(OSError, match="riscv64"):
        call_filter.program_of(PID)
