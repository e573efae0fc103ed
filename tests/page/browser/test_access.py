"""The page for those who use a keyboard, a finger, or what reads it out."""

import threading

import pytest
from playwright.sync_api import Page, Route, expect

from pool_service_client import ServerState
from tests.page.browser.conftest import Open, Serve, button, is_live, row, state
from tests.page.browser.scripted import listed, scripted, server

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


def calls_of(page: Page, method: str) -> list[str]:
    """The calls of a method that the page makes from now on."""
    calls: list[str] = []
    page.on(
        "request", lambda sent: calls.append(sent.url) if sent.url.endswith(f"/{method}") else None
    )
    return calls


def test_a_key_that_is_held_does_not_evict_what_it_has_started(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    evictions = calls_of(page, "Evict")
    button(page, "Start", "m").focus()
    page.keyboard.down("Enter")
    expect(state(page, "m")).to_have_text("READY")
    expect(row(page, "m").locator("td.model > button")).to_be_focused()
    for name in ("m", "Evict m"):
        row(page, "m").get_by_role("button", name=name, exact=True).focus()
        # It is down already: this is its repetition.
        page.keyboard.down("Enter")
    page.keyboard.up("Enter")
    expect(page.locator("#details")).to_be_hidden()
    assert evictions == []
    assert served.server("m").state is ServerState.READY


def test_a_second_click_does_not_evict_what_the_first_has_started(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    evictions = calls_of(page, "Evict")
    button(page, "Start", "m").dblclick()
    expect(state(page, "m")).to_have_text("READY")
    evict = button(page, "Evict", "m")
    evict.evaluate("(one) => one.dispatchEvent(new MouseEvent('click', { detail: 2 }))")
    button(page, "Pin", "m").click()
    expect(button(page, "Unpin", "m")).to_be_visible()
    assert evictions == []
    evict.click()
    expect(state(page, "m")).to_have_text("not running")


def test_rows_stay_for_some_seconds_after_a_touch(serve: Serve, visit: Open) -> None:
    served = serve("[models.a]\n[models.b]\n[models.c]\n")
    page = visit(served.url, **PHONE)
    is_live(page)
    names = page.locator("#servers tbody td.model > button")
    expect(names).to_have_text(["a", "b", "c"])
    started = page.evaluate("performance.now()")
    page.get_by_role("heading", name="Models").tap()
    waiting = threading.Thread(target=served.pool.ensure, args=("c",))
    waiting.start()
    expect(state(page, "c")).to_have_text("READY")
    at_once = page.evaluate(
        "() => [performance.now(), document.querySelector('#servers tbody .describe').textContent]"
    )
    assert at_once[1] == "a" or at_once[0] - started > 5000
    waiting.join()
    expect(names).to_have_text(["c", "a", "b"])
    assert page.evaluate("performance.now()") - started >= 5000


def test_a_message_can_be_read_and_dismissed_in_front_of_a_dialog(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\nexpected_memory = '900TB'\n")
    page = visit(served.url)
    kept: list[Route] = []

    def keep(call: Route) -> None:
        kept.append(call)

    page.route("**/api/Ensure", keep)
    with page.expect_request("**/api/Ensure"):
        button(page, "Start", "m").click()
    button(page, "Logs", "m").click()
    expect(page.locator("#details")).to_be_visible()
    for one in kept:
        one.continue_()
    message = page.get_by_role("alert").locator("p")
    expect(message).to_contain_text("900")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#details")).to_be_hidden()
    expect(message).to_be_visible()
    button(page, "Logs", "m").click()
    page.get_by_role("button", name="Close", exact=True).click()
    with page.expect_request("**/api/Ensure"):
        button(page, "Start", "m").click()
    button(page, "Logs", "m").click()
    while len(kept) < 2:
        page.wait_for_timeout(10)
    kept[1].continue_()
    expect(message).to_have_count(2)
    page.get_by_role("button", name="Dismiss").first.click()
    page.get_by_role("button", name="Dismiss").click()
    expect(message).to_have_count(0)


@pytest.mark.parametrize("size", [{}, PHONE], ids=["desk", "phone"])
def test_the_models_are_a_table_with_named_columns(
    size: dict[str, object], serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url, **size)
    expect(row(page, "m")).to_be_visible()
    table = page.get_by_role("table")
    expect(table.get_by_role("columnheader")).to_have_count(7)
    expect(table.get_by_role("columnheader").nth(3)).to_have_accessible_name(
        "In use when last checked"
    )
    expect(table.get_by_role("row").nth(1).get_by_role("cell")).to_have_count(7)


MOVES = """() => {
  window.moved = 0;
  window.changed = 0;
  const body = document.querySelector("#servers tbody");
  new MutationObserver((records) => {
    for (const one of records) window[one.target === body ? "moved" : "changed"] += 1;
  }).observe(body, { childList: true, subtree: true, attributes: true, characterData: true });
}"""


def test_of_2000_rows_only_one_that_changes_is_moved_and_written(visit: Open) -> None:
    with scripted() as told:
        told.models = [listed(f"m{number:04}") for number in range(2000)]
        told.begin(server("m0000", "STARTING"), server("m1999", "READY"))
        page = visit(told.url)
        rows = page.locator("#servers tbody tr")
        expect(rows).to_have_count(2000)
        expect(rows.first).to_contain_text("m0000")
        page.evaluate(MOVES)
        told.tell(server=server("m0000", "READY"))
        expect(state(page, "m0000")).to_have_text("READY")
        told.tell(removed=server("m0000", "READY"))
        expect(state(page, "m0000")).to_have_text("not running")
        expect(rows.first).to_contain_text("m1999")
        # One move is a removal and an insertion.
        assert page.evaluate("window.moved") <= 4
        assert page.evaluate("window.changed") < 100


def test_a_list_that_is_read_again_writes_only_rows_that_have_changed(visit: Open) -> None:
    with scripted() as told:
        told.models = [listed(f"m{number:03}", aliases=[f"a{number:03}"]) for number in range(200)]
        told.begin(server("m000"))
        page = visit(told.url)
        expect(page.locator("#servers tbody tr")).to_have_count(200)
        is_live(page)
        page.evaluate(MOVES)
        told.models[100] = listed("m100", aliases=["a100"], problem="its folder is gone")
        told.put({"error": {"code": "ABORTED", "reason": "REVISION_COMPACTED", "message": "gone"}})
        told.begin(server("m000"))
        expect(row(page, "m100")).to_contain_text("its folder is gone")
        assert page.evaluate("window.changed") < 100
