from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.processes.bench import Bench
from tests.processes.earlier import EarlierService


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and (is_long(item) or not any(item.iter_markers("quick"))):
            item.add_marker(pytest.mark.process)


def is_long(item: pytest.Item) -> bool:
    return any(item.iter_markers("long"))


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    the_bench = Bench(tmp_path)
    yield the_bench
    await the_bench.close()


@pytest.fixture
async def earlier(bench: Bench, tmp_path: Path) -> AsyncIterator[EarlierService]:
    service = EarlierService(tmp_path, bench.state_dir)
    yield service
    service.close()
