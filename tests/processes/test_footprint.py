"""Claims about what counts as the memory of a server, with real processes."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from pool_service.adapters.memory.footprint import Footprints
from pool_service.adapters.process.identity import identity_of
from pool_service.core.types import Identity

pytestmark = pytest.mark.quick

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
        assert footprints.of([server])[server] > MEGABYTES * 2**20
        assert process.stdin
        process.stdin.write(b"\n")
        assert psutil.wait_procs(children, timeout=60)[1] == []
        taken = footprints.of([server, other])
        assert MEGABYTES * 2**20 < taken[server] < 2 * MEGABYTES * 2**20


def test_a_session_that_began_elsewhere_is_nobodys() -> None:
    with served() as (server, _), served() as (other, _):
        taken = Footprints().of([server])
        assert other not in taken
        assert taken[server] < 2 * MEGABYTES * 2**20
