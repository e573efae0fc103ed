"""The description of a model: shown first whatever is selected, and waited for long enough."""

import threading

import pytest
from playwright.sync_api import expect

from tests.page.browser.conftest import Open, is_live, row
from tests.page.browser.scripted import Json, Scripted, described, listed, server

# Time limits pass when the test says so.
LIMITS = """
const limits = [];
AbortSignal.timeout = (ms) => {
  const controller = new AbortController();
  limits.push([ms, controller]);
  return controller.signal;
};
window.pass = (ms) => limits.forEach(([limit, controller]) => limit <= ms && controller.abort());
"""

READS_MS = 40_000
"""The time in which the service has read a disk twice that does not answer."""


@pytest.mark.parametrize("method", ["Describe", "ListModels"])
def test_what_the_service_reads_from_a_slow_disk_is_waited_for(
    method: str, told: Scripted, visit: Open
) -> None:
    go_on, asked = threading.Event(), []

    def answer(request: Json) -> Json:
        asked.append(request)
        go_on.wait()
        return told.listing(request) if method == "ListModels" else described(problem="the disk")

    told.models = [listed("slow")]
    told.answers[method] = answer
    page = visit("about:blank")
    page.add_init_script(LIMITS)
    with page.expect_request("**/api/ListModels"):
        page.goto(told.url)
    if method == "Describe":
        with page.expect_request("**/api/Describe"):
            row(page, "slow").locator("td.model > button").click()
    page.evaluate("(ms) => pass(ms)", READS_MS)
    go_on.set()
    shown = page.locator("#describe") if method == "Describe" else row(page, "slow")
    expect(shown).to_contain_text("the disk" if method == "Describe" else "slow")
    assert len(asked) == 1


def test_a_description_is_shown_though_text_is_selected_elsewhere(
    told: Scripted, visit: Open
) -> None:
    told.models = [listed("m")]
    problems = iter(["first", "second"])
    told.answers["Describe"] = lambda _request: described(problem=next(problems, "third"))
    told.begin(server())
    page = visit(told.url)
    is_live(page)
    name = row(page, "m").locator("td.model > button")
    name.focus()
    page.evaluate("getSelection().selectAllChildren(document.getElementById('timeline-title'))")
    page.keyboard.press("Enter")
    panel = page.locator("#describe")
    expect(panel).to_contain_text("first")
    assert page.evaluate("!getSelection().isCollapsed")
    expect(panel).to_contain_text("second")
    # Text of its own that is selected stays as it is.
    page.evaluate("getSelection().selectAllChildren(document.querySelector('#describe h3'))")
    with page.expect_response("**/api/Describe"):
        pass
    with page.expect_request("**/api/Describe"):
        pass
    expect(panel).to_contain_text("second")
    page.evaluate("getSelection().removeAllRanges()")
    expect(panel).to_contain_text("third")


def test_what_a_description_waits_for_is_told_until_it_comes(told: Scripted, visit: Open) -> None:
    busy = "64 connections are in use; try again later"
    refused = {"status": 503, "code": "UNAVAILABLE", "reason": "", "message": busy}
    told.models = [listed("m")]
    told.answers["Describe"] = lambda _request: dict(refused)
    told.begin(server())
    page = visit(told.url)
    row(page, "m").locator("td.model > button").click()
    panel = page.locator("#describe")
    expect(panel).to_have_text(busy)
    told.answers["Describe"] = lambda _request: described(problem="none")
    expect(panel).to_contain_text("none")
    expect(panel).not_to_contain_text(busy)
    told.answers["Describe"] = lambda _request: dict(refused)
    with page.expect_response(
        lambda answer: answer.url.endswith("/Describe") and answer.status == 503
    ):
        pass
    with page.expect_request("**/api/Describe"):
        pass
    expect(panel).to_contain_text("none")
