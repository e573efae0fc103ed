import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from pool_service_client import PoolClient
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.model_server import Server, nobody, state
from tests.client.scripted import Gate, Opens, Script, Stay

CLIENT = Path(__file__).parents[2] / "clients/python"


def test_the_first_example_of_the_readme_is_the_file() -> None:
    (shown, *_) = blocks()
    _, program = (CLIENT / "examples/ensure.py").read_text().split('"""\n\n', 1)
    assert shown == program


def blocks() -> list[str]:
    """Return the programs that the README shows."""
    return re.findall(r"```python\n(.*?)```", (CLIENT / "README.md").read_text(), re.DOTALL)


def test_the_engine_has_at_most_thirty_lines() -> None:
    _, code = (CLIENT / "examples/engine.py").read_text().split('"""\n\n', 1)
    assert len([line for line in code.splitlines() if line.strip()]) <= 30


@pytest.mark.parametrize("harm", ["refuses", "resets", "cuts"])
async def test_the_example_of_a_lost_connection_catches_what_is_raised(
    service: Script, harm: str
) -> None:
    (shown,) = (block for block in blocks() if "urlopen" in block)
    with Server(harm).serving() as bad, Server().serving() as good:
        first = nobody() if harm == "refuses" else bad.endpoint
        died = Gate()
        service.answer("Hold", state(first), died, state(good.endpoint, 2), Stay())
        service.answer("Get", Opens(died), pb.GetResponse())
        with PoolClient.connect(service.address) as pool, pool.hold("m") as hold:
            said: dict[str, Any] = {"hold": hold}
            await asyncio.to_thread(exec, shown, said)
        assert said["answer"] == b"well"


async def test_the_example_with_openai_catches_what_is_raised(service: Script) -> None:
    (shown,) = (block for block in blocks() if "hold.openai() as" in block)
    with Server("cuts").serving() as server:
        service.answer("Hold", state(server.endpoint), Stay())
        with PoolClient.connect(service.address) as pool:
            await asyncio.to_thread(exec, shown, {"pool": pool})
        assert server.asked
