"""What a window shows that goes on following, and what it keeps of what was done on it."""

import threading

import pytest
from playwright.sync_api import expect

from tests.page.browser.conftest import HIDE, Open, button, is_live, row, state
from tests.page.browser.scripted import Json, Scripted, listed, server, use


@pytest.mark.parametrize(
    ("last", "detail"),
    [("STOPPING", "it was evicted"), ("QUEUED", "waits for 'held' to go")],
)
def test_what_has_ended_while_nobody_looked_keeps_no_reason_that_is_none(
    last: str, detail: str, told: Scripted, visit: Open
) -> None:
    gone = server(state=last, detail=detail)
    told.models = [listed("m"), listed("n")]
    told.usage["servers"] = [use(state=last)]
    told.begin(gone)
    page = visit(told.url)
    is_live(page)
    expect(row(page, "m").locator(".why")).to_have_text(detail)
    with page.expect_event("requestfailed", lambda sent: sent.url.endswith("/api/Watch")):
        page.evaluate(HIDE, arg=True)
    told.usage["servers"] = []
    page.evaluate(HIDE, arg=False)
    # What is polled tells first that it has gone.
    expect(state(page, "m")).to_have_text("not running")
    while told.watches < 2:
        page.wait_for_timeout(10)
    told.tell(removed=gone)
    told.tell(server=server("n"))
    expect(state(page, "n")).to_have_text("READY")
    expect(row(page, "m").locator(".why")).to_have_text("")


def test_a_window_that_goes_on_shows_what_it_follows_though_nothing_has_changed(
    told: Scripted, visit: Open
) -> None:
    told.usage["servers"] = [use("polled")]
    told.begin(server("followed"))
    page = visit(told.url)
    expect(row(page, "followed")).to_be_visible()
    with page.expect_event("requestfailed", lambda sent: sent.url.endswith("/api/Watch")):
        page.evaluate(HIDE, arg=True)
    page.evaluate(HIDE, arg=False)
    expect(row(page, "polled")).to_be_visible()
    # Only an empty line comes.
    expect(row(page, "followed")).to_be_visible()
    expect(row(page, "polled")).to_have_count(0)


def test_a_list_of_models_that_was_read_before_does_not_undo_a_pin(
    told: Scripted, visit: Open
) -> None:
    told.models = [listed("m")]
    told.answers["Pin"] = lambda request: {"pinned": request["pinned"], "changed": True}
    page = visit(told.url)
    expect(button(page, "Pin", "m")).to_be_visible()
    go_on = threading.Event()

    def answer(request: Json) -> Json:
        found = told.listing(request)
        go_on.wait()
        return found

    told.models = [listed("m"), listed("n")]
    told.answers["ListModels"] = answer
    with page.expect_request("**/api/ListModels"):
        told.begin()
    button(page, "Pin", "m").click()
    expect(button(page, "Unpin", "m")).to_be_visible()
    go_on.set()
    expect(row(page, "n")).to_be_visible()
    expect(button(page, "Unpin", "m")).to_be_visible()
    expect(button(page, "Pin", "m")).to_have_count(0)
    # A later list is newer, and tells what another caller has done.
    told.answers["ListModels"] = told.listing
    told.put({"error": {"code": "ABORTED", "reason": "REVISION_COMPACTED", "message": "gone"}})
    told.begin()
    expect(button(page, "Pin", "m")).to_be_visible()
