"""What the page of a front shows: all hosts, and the models of one of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.fleet.loopback import HOSTS, MODELS, LoopbackFleet, loopback_fleet
from tests.page.browser.conftest import Open, button, is_live, row, state
from tests.page.browser.scripted import REVISION, Json, Scripted, server, use
from tests.service.metrics import LIMIT_S

HTTP = '[http]\nlisten = "127.0.0.1:0"\n'
MIB = 1 << 20


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[LoopbackFleet]:
    with loopback_fleet(tmp_path, HTTP) as one:
        yield one


def host(page: Page, name: str) -> Locator:
    """The line of a host."""
    return page.locator("#hosts li").filter(has=page.get_by_role("button", name=name, exact=True))


def sub(page: Page, model: str) -> Locator:
    return row(page, model).locator(".sub")


def test_models_of_all_hosts_are_shown_started_and_evicted_and_a_lost_host_is_named(
    fleet: LoopbackFleet, visit: Open
) -> None:
    with fleet.client() as pool:
        for model in MODELS[:2]:
            pool.ensure(model, timeout=LIMIT_S)
        hosts = {one.model: one.host for one in pool.list()}
        page = visit(f"http://{fleet.http}/")
        is_live(page)
        for model in MODELS[:2]:
            expect(state(page, model)).to_have_text("READY")
            expect(sub(page, model)).to_contain_text(f"on {hosts[model]}")
            expect(row(page, model).locator("td.leaves")).to_contain_text("next to go")
        for name in HOSTS:
            expect(host(page, name)).to_contain_text("present")
            expect(host(page, name)).to_contain_text("105 MB of 1.0 GB reserved · 1 ready")
        expect(page.locator("#memory-text")).to_contain_text("on all hosts")
        button(page, "Start", MODELS[2]).click()
        expect(state(page, MODELS[2])).to_have_text("READY")
        button(page, "Evict", MODELS[2]).click()
        expect(state(page, MODELS[2])).to_have_text("not running")
        # The start and the end of each, by what the front has seen.
        expect(page.locator("#timeline rect.is-ready")).not_to_have_count(0)
        lost = hosts[MODELS[0]]
        fleet.members[lost].process.kill()
        expect(host(page, lost)).to_contain_text("lost")
        expect(host(page, lost)).to_contain_text("its servers are not known")
        expect(page.locator("#notices")).to_contain_text(f"{lost}: its servers are not listed")
        expect(state(page, MODELS[0])).to_have_text("not running")
        expect(state(page, MODELS[1])).to_have_text("READY")


def test_an_error_of_a_member_is_told_as_the_member_has_said_it(
    fleet: LoopbackFleet, visit: Open
) -> None:
    with fleet.client() as pool:
        pool.ensure(MODELS[0], timeout=LIMIT_S)
        page = visit(f"http://{fleet.http}/")
        is_live(page)
        with pool.hold(MODELS[0]):
            expect(row(page, MODELS[0]).locator("td.uses")).to_contain_text("held")
            button(page, "Evict", MODELS[0]).click()
            # The reason came with it: only SERVER_IN_USE asks whether to evict all the same.
            expect(page.locator("#confirm-text")).to_contain_text("Evict it all the same?")


def fleet_usage(*servers: Json, **states: str) -> Json:
    totals = {"memory_reserved_bytes": 100 * MIB, "ready": 1}
    hosts = [
        {
            "host": name,
            "state": states.get(name, "present"),
            "why": "",
            "version": "1",
            "totals": totals,
        }
        for name in HOSTS
    ]
    return {
        "revision": str(REVISION),
        "servers": list(servers),
        "memory_current": True,
        "hosts": hosts,
    }


def test_a_chosen_host_hides_the_models_of_the_others_until_it_is_chosen_again(
    told: Scripted, visit: Open
) -> None:
    told.usage = fleet_usage(use("a", host="mini"), use("b", host="studio"))
    told.begin(server("a", host="mini"), server("b", host="studio"))
    page = visit(told.url)
    expect(state(page, "a")).to_have_text("READY")
    host(page, "studio").get_by_role("button").click()
    expect(row(page, "a")).to_have_count(0)
    expect(state(page, "b")).to_have_text("READY")
    expect(host(page, "studio").get_by_role("button")).to_have_attribute("aria-pressed", "true")
    host(page, "studio").get_by_role("button").click()
    expect(state(page, "a")).to_have_text("READY")


def test_two_hosts_with_one_model_have_two_rows_and_the_newest_has_the_buttons(
    told: Scripted, visit: Open
) -> None:
    old, new = {"host": "mini", "generation": "1"}, {"host": "studio", "generation": "2"}
    told.usage = fleet_usage(use("m", **old), use("m", **new))
    told.begin(server("m", **old), server("m", **new))
    page = visit(told.url)
    expect(row(page, "m")).to_have_count(2)
    for one, shows in ((old, False), (new, True)):
        of_host = row(page, "m").filter(has_text=f"on {one['host']}")
        expect(of_host).to_have_count(1)
        expect(of_host.locator("button.evict")).to_be_visible(visible=shows)


def test_two_hosts_may_have_the_same_generation(told: Scripted, visit: Open) -> None:
    told.usage = fleet_usage(use("m", host="mini"), use("m", host="studio"))
    told.begin(server("m", host="mini"), server("m", host="studio"))
    page = visit(told.url)
    expect(row(page, "m")).to_have_count(2)
    told.tell(removed=server("m", host="mini"))
    expect(row(page, "m")).to_have_count(1)
    expect(sub(page, "m")).to_contain_text("on studio")


def test_a_pool_without_a_fleet_shows_no_hosts(told: Scripted, visit: Open) -> None:
    told.usage["servers"] = [use("m", host="mini")]
    told.begin(server("m", host="mini"))
    page = visit(told.url)
    expect(state(page, "m")).to_have_text("READY")
    expect(page.locator("#hosts-section")).to_be_hidden()
    expect(sub(page, "m")).not_to_contain_text("on mini")
