from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.adapters.disk import Disk


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    the_disk = Disk(tmp_path / "state")
    yield the_disk
    await the_disk.close()
