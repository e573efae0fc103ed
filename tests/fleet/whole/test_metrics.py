"""Claims about the metrics of a front as it is run, before real members."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pool_service_client import PoolClient
from tests.fleet.loopback import HOSTS, MODELS, LoopbackFleet, loopback_fleet
from tests.promtool import needs_promtool, promtool
from tests.service.metrics import LIMIT_S, get, until
from tests.service.test_metrics import without_http

HTTP = '[http]\nlisten = "127.0.0.1:0"\n'

pytestmark = pytest.mark.process


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path, HTTP) as one:
        yield one


@pytest.fixture
def pool(fleet: LoopbackFleet) -> Iterator[PoolClient]:
    with fleet.client() as client:
        yield client


def total(fleet: LoopbackFleet, name: str, **labels: str) -> float:
    """The sum of the samples of this name that have these labels among their own."""
    families = text_string_to_metric_families(get(fleet.http))
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == f"pool_service_fleet_{name}" and labels.items() <= sample.labels.items()
    )


def test_a_front_without_http_imports_nothing_of_it() -> None:
    program = without_http("pool_service.fleet.app")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_what_the_front_did_is_shown_and_a_member_that_is_killed_counts_as_lost(
    fleet: LoopbackFleet, pool: PoolClient
) -> None:
    assert get(fleet.http, "/healthz") == "ok\n"
    for model in MODELS:
        pool.ensure(model, timeout=LIMIT_S)
    server = pool.ensure(MODELS[0], timeout=LIMIT_S).server
    assert total(fleet, "placings_total") == len(MODELS)
    assert total(fleet, "ensures_total", outcome="seated") == len(MODELS)
    assert total(fleet, "ensures_total", outcome="at_once") == 1
    assert total(fleet, "rpcs_total", method="Ensure", code="OK") == len(MODELS) + 1
    assert total(fleet, "forwarded_total", method="Ensure", code="OK") == len(MODELS) + 1
    assert total(fleet, "forwarded_duration_seconds_count", method="Ensure") == len(MODELS) + 1
    # What the Watch of a member tells comes after its answer.
    until(lambda: total(fleet, "servers", state="READY") == len(MODELS))
    assert total(fleet, "members", state="present") == len(HOSTS)
    assert (total(fleet, "leads"), total(fleet, "may_place")) == (1, 1)
    lost = fleet.members[server.host].process
    lost.kill()
    lost.wait()
    until(lambda: total(fleet, "member_state", host=server.host, state="lost"))
    assert total(fleet, "members_lost_total", host=server.host) == 1
    assert total(fleet, "servers", host=server.host) == 0
    moved = pool.ensure(MODELS[0], timeout=LIMIT_S).server
    assert moved.host != server.host
    assert total(fleet, "moves_total", cause="lost") == 1
    beats = "member_last_beat_timestamp_seconds"
    assert total(fleet, beats, host=moved.host) > total(fleet, beats, host=server.host)


@needs_promtool
def test_a_live_scrape_is_clean(fleet: LoopbackFleet, pool: PoolClient) -> None:
    pool.ensure(MODELS[0], timeout=LIMIT_S)
    said = promtool("check", "metrics", given=get(fleet.http))
    assert (said.code, said.text) == (0, "")


def test_only_metrics_and_health_are_served_without_a_page(tmp_path: Path) -> None:
    with loopback_fleet(tmp_path, f"{HTTP}page = false\n") as fleet:
        with pytest.raises(HTTPError, match="404"):
            get(fleet.http, "/")
        assert "pool_service_fleet_build_info" in get(fleet.http)
