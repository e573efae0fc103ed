"""The real vllm-mlx as a server of a fleet: it listens at the advertised address alone."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from pool_service_client import PoolClient
from tests.second_address import needs_ipv4_addresses
from tests.whole.patient import PATIENT
from tests.whole.test_server_keys import OPENAI, bearer, check_key, status
from tools.demo.service import RunningService, running

pytestmark = [pytest.mark.whole, pytest.mark.long, needs_ipv4_addresses]


@pytest.fixture(params=["at once", "standby", "not confined"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningService]:
    config = tmp_path / "config.toml"
    sandbox = "off" if request.param == "not confined" else "auto"
    config.write_text(
        f"[service]\nstandby = {int(request.param == 'standby')}\n"
        f"[runtime]\nsandbox = '{sandbox}'\n"
        "[fleet]\nname = 'one'\nadvertise = '127.0.0.2'\n"
    )
    arguments = ["--config", str(config)]
    with running(tmp_path / "state", arguments=arguments, wrapper=PATIENT) as one:
        yield one


def test_a_server_is_there_by_its_key_and_its_own_address_alone(
    service: RunningService, llama: Path, tmp_path: Path
) -> None:
    with PoolClient.connect(service.address) as pool:
        if "standby = 1" in (tmp_path / "config.toml").read_text():
            while not next(pool.pages()).totals.standbys:
                pass
        server = pool.ensure("m", runtime_model=str(llama)).server
        address = urlsplit(server.endpoint).netloc
        assert address.startswith("127.0.0.2:")
        process = psutil.Process(server.pid)
        listening = {
            one.laddr[0]
            for each in (process, *process.children(recursive=True))
            for one in each.net_connections("tcp")
            if one.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.2"}
        check_key(server)
        named = {**bearer(server.api_key), "Host": "evil.example"}
        assert status(server.endpoint, OPENAI, named, server.served_model_name) == 403
        pool.evict("m")
        assert not psutil.pid_exists(server.pid)
