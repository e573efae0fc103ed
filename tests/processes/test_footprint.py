"""Claims about what counts as the memory of a server, with real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.memory.footprint import Footprints, work_of
from pool_service.adapters.process.identity import identity_of
from pool_service.core.stall import StallWatch, after_sample, has_stalled
from pool_service.core.types import Identity

pytestmark = pytest.mark.quick

Looks = Callable[[StallWatch | None, float], StallWatch]

MEGABYTES = 64

# Its grandchild leads a session of its own and ends with it; its child ends when a line comes.
SERVER = f"""
import os, sys
its, ours = os.pipe()
if os.fork():
    os.wait()
    sys.stdin.read()
elif os.fork():
    sys.stdin.readline()
    os._exit(0)
else:
    os.close(ours)
    os.setsid()
    taken = b"x" * {MEGABYTES * 2**20}
    print("taken", flush=True)
    os.read(its, 1)
"""


@contextmanager
def served() -> Iterator[tuple[Identity, "subprocess.Popen[bytes]"]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-S", "-c", SERVER],
        stdin=pipe,
        stdout=pipe,
        bufsize=0,
        start_new_session=True,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"taken\n"
        identity = identity_of(process.pid)
        assert identity
        yield identity, process
        assert process.stdin
        process.stdin.close()


def test_a_descendant_with_a_session_of_its_own_counts_also_when_its_parent_has_ended() -> None:
    footprints = Footprints()
    with served() as (server, process), served() as (other, _):
        children = psutil.Process(server.pid).children()
        assert footprints.of(footprints.trees([server]))[server] > MEGABYTES * 2**20
        assert process.stdin
        process.stdin.write(b"\n")
        assert psutil.wait_procs(children, timeout=60)[1] == []
        taken = footprints.of(footprints.trees([server, other]))
        assert MEGABYTES * 2**20 < taken[server] < 2 * MEGABYTES * 2**20


def test_a_session_that_began_elsewhere_is_nobodys() -> None:
    with served() as (server, _), served() as (other, _):
        footprints = Footprints()
        taken = footprints.of(footprints.trees([server]))
        assert other not in taken
        assert taken[server] < 2 * MEGABYTES * 2**20


# --- the work of a start ------------------------------------------------------------------

STALL_S = 1.0
DOING = {
    "reading": "while True: open('/dev/zero', 'rb').read(2**20); time.sleep(0.1)",
    "writing": "while True: os.write(os.open('/dev/null', 1), bytes(2**20)); time.sleep(0.1)",
    "mapping": "m = mmap.mmap(os.open(sys.argv[1], 0), 0, prot=1)\n"
    "for at in range(0, len(m), 4096): m[at]\n"
    "sys.stdin.read()",
    "taking memory": "taken = b'x' * 2**25; sys.stdin.read()",
    "computing": "while True: pass",
    "in a child": "subprocess.run([sys.executable, '-Sc', 'while True: pass'])",
    "in children that end": "while True: subprocess.run([sys.executable, '-Sc', ''])",
}


@contextmanager
def working(code: str, *arguments: object) -> Iterator[tuple["subprocess.Popen[bytes]", Looks]]:
    """A process that runs the code once it is sent a line, and what judges its progress."""
    pipe = subprocess.PIPE
    begins = "import mmap, os, subprocess, sys, time; print(flush=True); sys.stdin.readline()\n"
    command = [sys.executable, "-S", "-c", begins + code, *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, bufsize=0, start_new_session=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        leader = identity_of(process.pid)
        assert leader
        footprints = Footprints()

        def look(before: StallWatch | None, now: float) -> StallWatch:
            trees = footprints.trees([leader])
            work, footprint = work_of(trees[leader]), footprints.of(trees)[leader]
            return after_sample(before, work, footprint, now=now, stall_timeout=STALL_S)

        try:
            yield process, look
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("what", DOING)
def test_a_process_that_reads_writes_takes_memory_or_computes_gets_on(
    what: str, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(bytes(16 * 2**20))
    with working(DOING[what], weights) as (process, look):
        begun = progress = look(None, 0.0)
        assert process.stdin
        process.stdin.write(b"\n")
        while progress.moved_at == begun.moved_at:
            progress = look(progress, 1.0)
        assert progress.loaded_at == (0.0 if what == "computing" else 1.0)


def test_a_process_that_only_waits_does_not_get_on_for_its_timers() -> None:
    timers = "for _ in range(20): time.sleep(0.05); open('/dev/null').read()\n"
    with working(f"{timers}print(flush=True)\nsys.stdin.read()") as (process, look):
        begun = look(None, 0.0)
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n")
        process.stdout.readline()
        assert has_stalled(look(begun, STALL_S), STALL_S, STALL_S)
