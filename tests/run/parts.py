"""The parts of the test suite: what each one proves, and the commands that run it."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto

CORES = os.cpu_count() or 1

MOSTLY_WAITING = str(3 * CORES)
"""How many tests of real processes run at a time: they wait more than they compute."""

COMPUTING = str(CORES)
"""How many tests of the real runtime run at a time: an import of mlx takes a core for seconds."""

IN_NO_PROCESS = "not process and not whole and not conformance and not toolchains and not installs"


class Form(StrEnum):
    """short: what `make test` runs; long: what only `make test-all` runs besides."""

    SHORT = auto()
    LONG = auto()


@dataclass(frozen=True, slots=True)
class Command:
    """One program run. words: the command line; is_pytest: whether it takes pytest's arguments."""

    words: tuple[str, ...]
    is_pytest: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the suite.

    about: what it runs, for people; needs: programs without which it is left out.
    """

    name: str
    form: Form
    about: str
    commands: tuple[Command, ...]
    needs: tuple[str, ...] = ()


def pytest(*arguments: str, before: Sequence[str] = ()) -> Command:
    """Return a command that runs pytest; before: a program that is to become it."""
    return Command((*before, sys.executable, "-m", "pytest", *arguments), is_pytest=True)


def at_a_time(workers: str, expression: str) -> Command:
    """Return pytest's command for the marked tests, shared out among so many workers."""
    return pytest("-n", workers, "--dist", "loadgroup", "-m", expression)


def client(language: str, program: str) -> Part:
    """Return the part for the unit tests of one of the clients in other languages."""
    command = Command(("make", "--no-print-directory", "-C", f"clients/{language}", "test"))
    about = f"unit tests of the client in clients/{language}"
    return Part(f"client-{language}", Form.LONG, about, (command,), needs=(program,))


_ON_A_MAC = ("-n", MOSTLY_WAITING, "-p")
_AS_ON_A_MAC = (
    pytest(
        *_ON_A_MAC,
        "tests.as_on_macos",
        "tests/as_on_macos",
        "tests/service/test_ensure.py",
        "tests/service/test_stopping.py",
        "tests/faults/test_service_killed.py",
        "tests/faults/test_server_lost.py",
    ),
    pytest(*_ON_A_MAC, "tests.realfork", "tests/client/test_real_service.py"),
    pytest(
        "tests/rpc/test_server.py",
        "tests/config",
        "tests/cli",
        "tests/client/test_calls.py",
        "tests/client/test_real_service.py",
        before=("sh", "tools/with_long_paths.sh"),
    ),
)

PARTS = (
    Part(
        "core",
        Form.SHORT,
        "core, driver, gRPC and command line, without processes",
        (pytest("-n", COMPUTING, "-m", f"{IN_NO_PROCESS} and not long"),),
    ),
    Part(
        "edges",
        Form.SHORT,
        "real processes with a small fake runtime, faults, clients against the service",
        (at_a_time(MOSTLY_WAITING, "(process or conformance) and not long"),),
    ),
    Part(
        "runtime",
        Form.SHORT,
        "the real vllm-mlx with a real model, once for each promise",
        (at_a_time(COMPUTING, "whole and not long"),),
    ),
    client("go", "go"),
    client("rust", "cargo"),
    client("typescript", "npm"),
    Part(
        "edges-long",
        Form.LONG,
        "the crash matrix at every point, thousands of rounds, every client",
        (at_a_time(MOSTLY_WAITING, "(process or conformance) and long"),),
    ),
    Part(
        "toolchains",
        Form.LONG,
        "programs in Java and C++; audits and bills by the tools of each language",
        (pytest("-m", "toolchains"),),
    ),
    Part(
        "installs",
        Form.LONG,
        "what `make dist` builds, and this clone, installed by pip, pipx and uv",
        (pytest("-m", "installs"),),
    ),
    Part(
        "as-on-a-mac",
        Form.LONG,
        "services in their branches for macOS, with fork, gRPC's poll engine, and long paths",
        _AS_ON_A_MAC,
    ),
    Part(
        "runtime-long",
        Form.LONG,
        "everything else with the real vllm-mlx and its earlier versions: loaders, contract, soak",
        (at_a_time(COMPUTING, "whole and long"),),
    ),
)
