"""A service that serves metrics, and a Prometheus that scrapes it."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode
from urllib.request import urlopen

from tools.demo.service import RunningService

Value = TypeVar("Value")

LIMIT_S = 60.0
"""However loaded the machine is."""

SERVING = re.compile(r"serving HTTP .*address=(\S+)")
RULES = Path(__file__).parents[2] / "packaging/prometheus/rules.yml"

CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}}
rule_files: [{rules}]
scrape_configs:
  - job_name: pool-service
    static_configs: [{{targets: ["{target}"]}}]
"""


def http_address(service: RunningService) -> str:
    """Where a service says that it serves metrics."""
    found = SERVING.search(service.log.read_text())
    assert found is not None, service.log.read_text()
    return found[1]


def get(address: str, path: str = "/metrics") -> str:
    with urlopen(f"http://{address}{path}", timeout=LIMIT_S) as answer:
        text: str = answer.read().decode()
    return text


def until(holds: Callable[[], Value]) -> Value:
    """The first value that is true, asked for again and again."""
    end = time.monotonic() + LIMIT_S
    while not (value := holds()):
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.05)
    return value


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    address: str

    def query(self, expression: str) -> dict[str, float]:
        """The values of an instant vector by their `model`, or by "" if it has none."""
        found = self._get("query", query=expression)["result"]
        return {one["metric"].get("model", ""): float(one["value"][1]) for one in found}

    def alerts(self) -> dict[str, str]:
        """The states of the alerts that are not inactive, by name."""
        alerts = self._get("alerts")["alerts"]
        return {one["labels"]["alertname"]: one["state"] for one in alerts}

    def _get(self, what: str, **query: str) -> dict[str, Any]:
        data: dict[str, Any]
        data = json.loads(get(self.address, f"/api/v1/{what}?{urlencode(query)}"))["data"]
        return data


@contextmanager
def prometheus(directory: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus with our alerts that scrapes `target`, while the block runs."""
    directory.mkdir()
    config = directory / "prometheus.yml"
    config.write_text(CONFIG.format(rules=RULES, target=target))
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--web.listen-address=127.0.0.1:0",
    ]
    log = directory / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=stderr, stderr=stderr)
    try:
        found = until(lambda: re.search(r"address=(127\.0\.0\.1:[1-9]\d*)", log.read_text()))
        assert found is not None
        address = found[1]
        until(lambda: _is_ready(address))
        yield Prometheus(address)
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def _is_ready(address: str) -> bool:
    """Whether a Prometheus answers queries: for a moment it listens and refuses them."""
    try:
        get(address, "/-/ready")
    except OSError:
        return False
    return True
