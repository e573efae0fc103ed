"""Claims about `pool-service top` over a front and real members."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import Terminal
from tests.fleet.loopback import MODELS, LoopbackFleet, loopback_fleet
from tests.service.live import a_terminal, top
from tests.service.metrics import LIMIT_S

pytestmark = pytest.mark.process


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path) as one:
        yield one


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with a_terminal() as one:
        yield one


def test_top_shows_all_hosts_starts_on_one_of_them_and_names_one_that_is_not_seen(
    fleet: LoopbackFleet, terminal: Terminal
) -> None:
    with fleet.client() as pool:
        for model in MODELS[:2]:
            pool.ensure(model, timeout=LIMIT_S)
        hosts = {one.model: one.host for one in pool.list()}
    with top(fleet.address, terminal) as process:
        terminal.wait_for_screen("HOST", "mini: 1 ready of 1", "studio: 1 ready of 1")
        # The chosen row, whose endpoint and host are below the table.
        terminal.wait_for_screen(f"> {MODELS[0]}", f"on {hosts[MODELS[0]]}", "q quit")
        terminal.type("jjE")
        terminal.wait_for(f"{MODELS[2]}: started (generation 1, pid ")
        lost = hosts[MODELS[0]]
        fleet.members[lost].process.kill()
        terminal.wait_for(f"! {lost}: its servers are not listed")
        terminal.type("q")
        assert process.wait(LIMIT_S) == 0
