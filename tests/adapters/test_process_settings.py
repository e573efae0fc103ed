"""What children inherit: signals, by a process that starts with some ignored; and limits."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pool_service.adapters.system import process_settings as child
from pool_service.adapters.system.process_settings import (
    MAX_DESCRIPTORS,
    raise_descriptor_limit,
    restore_descriptor_limit,
)
from tests.adapters.descriptor_limits import descriptor_limits
from tests.under_way import under_way

RESETS = """
import importlib.util, signal, sys
spec = importlib.util.spec_from_file_location("child", sys.argv[1])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
# A shell cannot hand that down.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
was_ignored = [child.is_disregarded(number) for number in (signal.SIGHUP, signal.SIGTERM)]
child.reset_signals()
print(was_ignored, [child.is_disregarded(number) for number in (signal.SIGHUP, signal.SIGTERM)])
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
for name in ("HUP", "TTOU", "CHLD", "TERM", "PIPE"):
    handler = signal.getsignal(getattr(signal, "SIG" + name))
    print(name, getattr(handler, "__name__", None) or signal.Handlers(handler).name)
"""


def test_a_service_that_was_started_with_signals_ignored_hands_none_of_that_down() -> None:
    script = "trap '' HUP TTOU; exec \"$@\""
    ended = subprocess.run(
        [
            *("/bin/sh", "-c", script, "sh"),
            sys.executable,
            "-S",
            "-E",
            "-c",
            RESETS,
            child.__file__,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.splitlines() == [
        "[True, False] [True, False]",
        "set()",
        "HUP disregard",
        "TTOU SIG_DFL",
        "CHLD SIG_DFL",
        "TERM SIG_DFL",
        "PIPE SIG_IGN",
    ]


@pytest.fixture(autouse=True)
def _as_at_the_start(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process have the limits that it was started with."""
    monkeypatch.setattr(child, "_given_descriptors", None)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


INFINITE = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("given", "becomes"),
    [
        ((256, INFINITE), (MAX_DESCRIPTORS, INFINITE)),
        ((256, 10**9), (MAX_DESCRIPTORS, 10**9)),
        ((256, 4096), (4096, 4096)),
        ((4096, 4096), None),
        ((10**6, 10**6), None),
        ((MAX_DESCRIPTORS, INFINITE), None),
        ((INFINITE, INFINITE), None),
    ],
)
def test_the_soft_limit_is_raised_as_far_as_the_hard_one_lets_it(
    given: tuple[int, int], becomes: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_set = list[tuple[int, int]]()
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: given)
        patch.setattr(resource, "setrlimit", lambda _, limits: was_set.append(limits))
        told = raise_descriptor_limit()
    assert was_set == ([becomes] if becomes else [])
    most = MAX_DESCRIPTORS if given[0] == INFINITE else given[0]
    assert told == (becomes[0] if becomes else most)
    assert child._given_descriptors == (given if becomes else None)


def test_where_the_limit_may_not_be_changed_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise ValueError("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda _: (256, 4096))
        patch.setattr(resource, "setrlimit", refused)
        assert raise_descriptor_limit() == 256
        patch.setattr(resource, "getrlimit", refused)
        assert raise_descriptor_limit() == MAX_DESCRIPTORS
    assert child._given_descriptors is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
def test_a_child_gets_the_limits_that_the_service_was_started_with() -> None:
    with under_way({}) as process:
        before = descriptor_limits(process.pid)
        restore_descriptor_limit(process.pid)
        assert descriptor_limits(process.pid) == before
        child._given_descriptors = (100, 200)
        restore_descriptor_limit(process.pid)
        assert descriptor_limits(process.pid) == (100, 200)
        process.kill()
    restore_descriptor_limit(process.pid)


def test_what_disregards_a_signal_does_nothing() -> None:
    child.disregard(signal.SIGHUP, None)
