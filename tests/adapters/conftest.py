import gc
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.standby import process, standbys
from tests.adapters.disk import Disk
from tests.adapters.light_standby import CHILD, LONG, Kept
from tests.adapters.prompt_servers import KIB, OpenStore


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    the_disk = Disk(tmp_path / "state")
    yield the_disk
    await the_disk.close()


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    monkeypatch.setattr(process, "CHILD", child)
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", LONG)
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", LONG)
    monkeypatch.setattr(standbys, "NEW_TIMEOUT_S", LONG)
    the_kept = Kept(tmp_path)
    yield the_kept
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    await the_kept.close()


@pytest.fixture(autouse=True)
def _every_descriptor_is_closed() -> Iterator[None]:
    """Fail a test after which a descriptor is open that was not before it."""
    before = open_descriptors()
    yield
    if open_descriptors() - before:
        gc.collect()
        new = open_descriptors() - before
        assert not new, f"left open: {new}"


def open_descriptors() -> frozenset[tuple[int, int, int]]:
    """Each open descriptor of this process, with the device and inode of its file."""
    found = set[tuple[int, int, int]]()
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - twice for every test
        # The listing's own is closed again.
        with suppress(OSError):
            status = os.fstat(int(name))
            found.add((int(name), status.st_dev, status.st_ino))
    return frozenset(found)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[OpenStore]:
    """Open a store of prompts below the test's directory, once or again; total: of 100 KiB."""
    with ExitStack() as stores:

        def one(total: int | None = 100 * KIB) -> PromptStore:
            store = PromptStore(tmp_path, total)
            stores.callback(store.close)
            return store

        yield one


@pytest.fixture
def store(open_store: OpenStore) -> PromptStore:
    return open_store()
