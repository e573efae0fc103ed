"""What goes on in a pool while somebody asks for a model that is READY, in a process of its own.

Beside it the one who measures does nothing else, as if these were other engines.
"""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

from pool_service_client import PoolClient

COUNT = 24
AT_ONCE = 8
START_TIMEOUT = 120.0
END_TIMEOUT = 20.0
NAMES = [f"bench/other-{number}" for number in range(COUNT)]


class Disturbance:
    """Others, who do what they are told."""

    def __init__(self, others: Connection) -> None:
        self._others = others

    def begin(self, what: str, model: str = "") -> None:
        """What: a method of `_Others`; model: what it loads."""
        self._others.send((what, model))

    @property
    def goes_on(self) -> bool:
        """Whether they have not finished. Raises RuntimeError with what failed."""
        if not self._others.poll():
            return True
        failed = self._others.recv()
        if failed:
            raise RuntimeError(f"the others failed: {failed}")
        return False

    def finish(self, what: str) -> None:
        """Let them do it, with nobody beside."""
        self.begin(what)
        self._others.poll(None)
        assert not self.goes_on


@contextmanager
def others(address: str) -> Iterator[Disturbance]:
    """They are there while the block runs."""
    # Not a fork: a copy of a process that uses gRPC would not work.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(address, theirs), daemon=True)
    process.start()
    try:
        yield Disturbance(ours)
    finally:
        ours.close()
        theirs.close()
        process.join(END_TIMEOUT)
        process.kill()
        process.join()


def _run(address: str, orders: Connection) -> None:
    with PoolClient.connect(address) as pool, ThreadPoolExecutor(AT_ONCE) as callers:
        doing = _Others(pool, callers)
        while True:
            try:
                what, model = orders.recv()
            except EOFError:
                return
            try:
                getattr(doing, what)(*([Path(model)] if model else []))
                failed = ""
            except Exception as error:  # noqa: BLE001  # told to the one who measures
                failed = repr(error)
            orders.send(failed)


class _Others:
    def __init__(self, pool: PoolClient, callers: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._callers = callers

    def load(self, model: Path) -> None:
        self._pool.ensure("bench/loading", runtime_model=str(model), timeout=START_TIMEOUT)

    def unload(self) -> None:
        self._pool.evict("bench/loading", force=True)

    def start(self) -> None:
        list(self._callers.map(self._pool.ensure, NAMES))

    def stop(self) -> None:
        list(self._callers.map(self._pool.evict, NAMES))

    def crash(self) -> None:
        """All die, one after the other, and are asked for again at once."""
        for server in [one for one in self._pool.list() if one.model in NAMES]:
            os.kill(server.pid, signal.SIGKILL)
            self._pool.ensure(server.model)
