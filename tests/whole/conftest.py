from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.whole.runs import Runs
from tools.demo.checkpoints import write_tiny_llama


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[Runs]:
    the_runs = Runs(tmp_path)
    yield the_runs
    await the_runs.close()


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    write_tiny_llama(tmp_path / "llama")
    return tmp_path / "llama"
