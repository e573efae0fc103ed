"""Checks of what the kernel reports about processes and sockets, on which all supervision rests."""

import asyncio
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pool_service.adapters.memory.footprint import of_process as footprint_of
from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import boot_id, identity_of, is_alive, variable_of
from pool_service.adapters.sockets.listeners import listeners
from pool_service.doctor.finding import Finding, judge

EXIT_TIMEOUT_S: Final = 10.0

REMEDY: Final = (
    "run the service where it sees its own children: with /proc, and without a sandbox that "
    "hides processes"
)
# A child in Python: macOS hides the environment of Apple's own programs.
_LISTENING: Final = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


def process_findings() -> Iterator[Finding]:
    """Check that a child process can be identified, and that its exit is reported."""
    with _child() as (child, _):
        identity = identity_of(child.pid)
        is_known = identity is not None and is_alive(identity)
        yield judge("processes", "a child can be identified", holds=is_known, remedy=REMEDY)
        yield judge("processes", f"this boot is {boot_id()}", holds=bool(boot_id()), remedy=REMEDY)
        if identity is None:
            return

        async def killed() -> None:
            async with asyncio.timeout(EXIT_TIMEOUT_S):
                ending = asyncio.create_task(wait_for_exit(watch, identity))
                await asyncio.sleep(0)
                child.kill()
                await ending

        watch = exit_watch()
        asyncio.run(killed())
        found = f"the exit of a child is reported ({type(watch).__name__})"
        yield judge("processes", found, holds=not is_alive(identity), remedy=REMEDY)


def socket_findings() -> Iterator[Finding]:
    """Check that the environment, the listening port and the memory of a child can be read."""
    nonce = secrets.token_hex(8)
    with _child(POOL_SERVICE_DOCTOR=nonce) as (child, port):
        found = "the environment of a child can be read"
        is_read = variable_of(child.pid, "POOL_SERVICE_DOCTOR") == nonce
        yield judge("sockets", found, holds=is_read, remedy=REMEDY)
        ports = [one.port for one in listeners([child.pid])]
        found = "the port that a child listens on can be read"
        yield judge("sockets", found, holds=ports == [port], remedy=REMEDY)
        taken = footprint_of(child.pid)
        found = f"the memory of a child can be read ({taken / 1e6:.0f} MB)"
        yield judge("sockets", found, holds=taken > 0, remedy=REMEDY)


@contextmanager
def _child(**variables: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run a child that listens while the block runs; yield it and its port."""
    child = subprocess.Popen(  # noqa: S603  # this very Python
        (sys.executable, "-c", _LISTENING),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | variables,
    )
    try:
        assert child.stdout is not None
        yield child, int(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()
