"""What packaging/ has for Prometheus and Grafana: valid, and of metrics that the service writes."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pool_service.fleet.metrics.families import FAMILIES as OF_FRONT
from pool_service.metrics.families import FAMILIES, Kind
from tests.promtool import needs_promtool, promtool

ROOT = Path(__file__).parents[1]
RULES = ROOT / "packaging/prometheus/rules.yml"
RULES_OF_FLEET = RULES.with_name("fleet_rules.yml")
DASHBOARD = ROOT / "packaging/grafana/pool-service.json"
DASHBOARD_OF_FLEET = DASHBOARD.with_name("pool-service-fleet.json")
GUIDE = (ROOT / "docs/how-to/metrics.md").read_text()

NAME = re.compile(r"\bpool_service_\w+")
ALERT = re.compile(r"- alert: (\w+)")


def exported() -> set[str]:
    """The names of all samples that a service or a front writes."""
    names = set()
    for family in (*FAMILIES, *OF_FRONT):
        parts = {
            Kind.HISTOGRAM: ("_bucket", "_sum", "_count"),
            Kind.SUMMARY: ("_sum", "_count"),
        }.get(family.kind, ("",))
        names |= {family.full_name + part for part in parts}
    return names


def expressions(file: Path = DASHBOARD) -> Iterator[str]:
    """All expressions of a dashboard, as Grafana fills them in."""
    dashboard = json.loads(file.read_text())
    for expression in _expressions_in(dashboard):
        yield expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def _expressions_in(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "expr" in part:
            yield part["expr"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _expressions_in(each)


of_both = pytest.mark.parametrize("rules", [RULES, RULES_OF_FLEET], ids=lambda file: file.stem)
of_both_boards = pytest.mark.parametrize(
    "board", [DASHBOARD, DASHBOARD_OF_FLEET], ids=lambda file: file.stem
)


@needs_promtool
@of_both
def test_the_rules_are_valid(rules: Path) -> None:
    said = promtool("check", "rules", "--lint-fatal", str(rules))
    assert said.code == 0, said.text


@needs_promtool
@of_both
def test_each_alert_fires_when_it_should_and_not_otherwise(rules: Path) -> None:
    said = promtool("test", "rules", str(rules.with_name(f"{rules.stem}_test.yml")))
    assert said.code == 0, said.text


@of_both
def test_each_alert_is_tested_and_explained(rules: Path) -> None:
    alerts = ALERT.findall(rules.read_text())
    tests = rules.with_name(f"{rules.stem}_test.yml").read_text()
    assert len(alerts) == (8 if rules == RULES else 3)
    assert [name for name in alerts if f"alertname: {name}\n        exp_alerts" not in tests] == []
    assert [name for name in alerts if f"`{name}`" not in GUIDE] == []


@of_both
def test_the_rules_are_about_metrics_that_are_written(rules: Path) -> None:
    assert set(NAME.findall(rules.read_text())) <= exported()


@of_both_boards
def test_the_dashboard_is_about_metrics_that_are_written(board: Path) -> None:
    found = {name for expression in expressions(board) for name in NAME.findall(expression)}
    assert len(found) > 15
    assert found <= exported()


@needs_promtool
@of_both_boards
def test_each_expression_of_the_dashboard_is_valid(board: Path, tmp_path: Path) -> None:
    rules = [
        {"record": f"expression:{number}", "expr": expression}
        for number, expression in enumerate(expressions(board))
    ]
    # JSON is YAML.
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    said = promtool("check", "rules", str(file))
    assert said.code == 0, said.text
    assert f"{len(rules)} rules found" in said.text


@needs_promtool
def test_promtool_tells_what_is_no_expression(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    rule = {"record": "a", "expr": "sum by (model (pool_service_streams)"}
    file.write_text(json.dumps({"groups": [{"name": "wrong", "rules": [rule]}]}))
    assert promtool("check", "rules", str(file)).code != 0


@of_both_boards
def test_each_panel_says_what_it_shows_and_has_a_place_of_its_own(board: Path) -> None:
    panels = json.loads(board.read_text())["panels"]
    assert all(panel["description"] and panel["targets"] for panel in panels)
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken)
    assert max(x for x, _ in taken) < 24


@pytest.mark.process
def test_the_table_of_metrics_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "tools/document_metrics.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
