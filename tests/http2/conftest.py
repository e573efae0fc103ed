from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.conftest import STAND_IN_RUNTIME
from tools.demo.service import RunningService, running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    config = tmp_path / "pool.toml"
    config.write_text(f"service.standby = 0\n{STAND_IN_RUNTIME}")
    with running(tmp_path / "state", arguments=["--config", str(config)]) as one:
        yield one
