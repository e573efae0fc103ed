from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pool_service.adapters.standby import process, standbys
from tests.adapters.disk import Disk
from tests.adapters.light_standby import CHILD, LONG, Kept


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
