import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tools.demo.service import RunningService, running

FAKE = Path(__file__).parents[1] / "fake_server.py"
STAND_IN = Path(__file__).with_name("stand_in.py")

FAKE_RUNTIME = f"""
[runtime]
kind = "vllm-mlx"
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']
"""
"""The fake server under the name of the real one: same options, same signals of use."""

STAND_IN_RUNTIME = f"""
[runtime]
command = ['{sys.executable}', '-S', '-E', '{STAND_IN}', '{{port}}']
health_path = "/"
"""

Start = Callable[..., RunningService]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts services as subprocesses; each is stopped, with its servers, at the end."""
    with ExitStack() as stack:

        def start_one(config: str = FAKE_RUNTIME, name: str = "state") -> RunningService:
            path = tmp_path / f"{name}.toml"
            path.write_text(config)
            arguments = ["--config", str(path)]
            return stack.enter_context(running(tmp_path / name, arguments=arguments))

        yield start_one


@pytest.fixture
def service(start: Start) -> RunningService:
    return start()


@pytest.fixture
def pool(service: RunningService) -> Iterator[PoolClient]:
    with PoolClient.connect(service.address) as client:
        yield client
