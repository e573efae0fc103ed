"""The metrics of a service as it is run, and a real Prometheus that scrapes them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pool_service.metrics.families import FAMILIES
from pool_service_client import PoolClient, ServerState
from tests.promtool import needs_promtool, promtool
from tests.service.conftest import FAKE_RUNTIME, Start
from tests.service.metrics import LIMIT_S, get, http_address, prometheus, until
from tests.test_monitoring import expressions
from tools.demo.service import command

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None and not os.environ.get("CI"),
    reason="Prometheus is not there",
)

HTTP = '[http]\nlisten = "127.0.0.1:0"\n'
CONFIG = FAKE_RUNTIME + HTTP
RESTLESS = "[service]\ncrash_limit = 100\nbackoff_initial = 0\n"
"""However often it dies, it is started again at once."""


def without_http(loaded: str) -> str:
    """A program that imports the service, and prints what it has imported only for HTTP."""
    return f"import sys, {loaded}; print([m for m in sys.modules if m in {ONLY_FOR_HTTP}])"


ONLY_FOR_HTTP = (
    "pool_service.metering",
    "pool_service.fleet.metering",
    "pool_service.fleet.page",
    "pool_service.monitoring",
    "pool_service.http",
    "pool_service.metrics",
    "pool_service.page",
)


def test_a_service_without_it_imports_nothing_of_it() -> None:
    program = without_http("pool_service.app")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@needs_promtool
def test_a_live_scrape_is_clean_and_has_what_list_says_and_all_that_the_dashboard_asks_for(
    start: Start,
) -> None:
    service = start(CONFIG)
    address = http_address(service)
    with PoolClient.connect(service.address) as pool:
        for model in ("one", "two"):
            pool.ensure(model)
        pool.evict("two")
        listed = pool.list()
        text = get(address)
    assert promtool("check", "metrics", given=text).text == ""
    families = {one.name: one for one in text_string_to_metric_families(text)}
    states = families["pool_service_server_state"].samples
    shown = {one.labels["model"]: one.labels["state"] for one in states if one.value}
    assert shown == {one.model: one.state.name for one in listed} == {"one": "READY"}
    assert {*re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)} == {
        one.full_name for one in FAMILIES
    }
    samples = {*re.findall(r"^(pool_service_\w+)", text, re.MULTILINE)}
    asked = {name for each in expressions() for name in re.findall(r"pool_service_\w+", each)}
    # Nothing was killed, and nobody has a stream.
    assert asked - samples == {"pool_service_exits_killed_total", "pool_service_streams"}


def test_scrapes_keep_no_server_alive(start: Start) -> None:
    service = start(f"{CONFIG}[defaults]\nkeep_alive = 1\ngrace_period = 0\n")
    address = http_address(service)
    with PoolClient.connect(service.address) as pool:
        pool.ensure("m")
        until(lambda: 'exits_total{model="m",cause="IDLE"} 1' in get(address))
        until(lambda: not pool.list())


def test_it_is_served_over_a_unix_socket_of_the_users_own(start: Start, socket_dir: Path) -> None:
    path = socket_dir / "http.sock"
    start(f'{FAKE_RUNTIME}[http]\nlisten = "unix:{path}"\n')
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(LIMIT_S)
        peer.connect(str(path))
        peer.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: peer.recv(4096), b"")).endswith(b"\r\n\r\nok\n")


def test_an_address_that_is_taken_keeps_the_service_from_starting_and_says_why(
    tmp_path: Path, socket_dir: Path
) -> None:
    calls, file = socket_dir / "pool.sock", tmp_path / "pool.toml"
    state = tmp_path / "state"
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        file.write_text(
            f'{FAKE_RUNTIME}[service]\nlisten = ["unix:{calls}"]\n[http]\nlisten = "{address}"\n'
        )
        serve = command("serve", "--config", str(file), "--state-dir", str(state))
        done = subprocess.run(serve, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 1
    assert f"pool-service: cannot listen on {address}: it is taken by another" in done.stderr
    assert "Traceback" not in done.stderr
    assert not calls.exists(), "nobody could call"
    assert [
        path for path in state.rglob("*") if path.is_file() and str(calls) in path.read_text()
    ] == []


def test_config_check_refuses_an_address_that_other_machines_reach(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text('[http]\nlisten = "0.0.0.0:9464"\n')
    check = command("config", "check", str(file))
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "http.listen: 0.0.0.0:9464 can be reached from other machines" in done.stderr


@needs_prometheus
def test_prometheus_scrapes_it_and_says_what_list_says(start: Start, tmp_path: Path) -> None:
    service = start(CONFIG)
    with (
        prometheus(tmp_path / "prometheus", http_address(service)) as watching,
        PoolClient.connect(service.address) as pool,
    ):
        until(lambda: watching.query('up{job="pool-service"}') == {"": 1.0})
        for model in ("one", "two/x:4bit"):
            pool.ensure(model)
        ready = {server.model: 1.0 for server in pool.list() if server.state is ServerState.READY}
        assert len(ready) == 2
        expression = 'pool_service_server_state{state="READY"} == 1'
        until(lambda: watching.query(expression) == ready)
        assert watching.alerts() == {}
        service.stop()
        until(lambda: watching.alerts().get("PoolServiceDown") == "pending")


@needs_prometheus
def test_a_model_that_dies_again_and_again_is_alerted_by_its_name(
    start: Start, tmp_path: Path
) -> None:
    service = start(CONFIG + RESTLESS)
    address = http_address(service)
    with (
        prometheus(tmp_path / "prometheus", address) as watching,
        PoolClient.connect(service.address) as pool,
    ):
        for death in range(1, 6):
            os.kill(pool.ensure("sick").server.pid, signal.SIGKILL)
            counted = 'pool_service_exits_total{model="sick",cause="CRASHED"}'
            until(lambda: watching.query(counted).get("sick") == death)  # noqa: B023
        until(lambda: watching.alerts().get("PoolModelCrashing") == "firing")
        alerting = 'ALERTS{alertname="PoolModelCrashing"}'
        until(lambda: watching.query(alerting) == {"sick": 1.0})
