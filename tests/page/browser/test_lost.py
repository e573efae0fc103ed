"""Servers and services that die while somebody watches, and pages that nobody sees."""

import os
import signal

from playwright.sync_api import Page, Request, expect

from tests.page.browser.conftest import Open, Serve, button, is_live, row, state

HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_a_server_that_is_killed_is_shown_with_its_cause(serve: Serve, visit: Open) -> None:
    served = serve("[service]\ncrash_limit = 1\n[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    expect(state(page, "m")).to_have_text("READY")
    expect(page.locator("#timeline .lane")).to_have_text(["m"])
    os.kill(served.server("m").pid, signal.SIGKILL)
    expect(state(page, "m")).to_have_text("FAILED")
    expect(row(page, "m").locator(".why")).to_contain_text("SIGKILL")
    expect(page).to_have_title("1 failed, 0 ready · Pool")
    page.locator("#timeline .crash").hover()
    expect(page.locator("#tip")).to_contain_text("crashed at")
    expect(page.locator("#tip")).to_contain_text("SIGKILL")
    row(page, "m").locator("td.model > button").click()
    expect(page.locator("#describe")).to_contain_text("crashed")


def test_the_page_comes_back_by_itself_when_the_service_does(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    button(page, "Logs", "m").click()
    expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
    served.service.process.kill()
    expect(page.locator("#connection")).to_have_text("the service is away; trying again…")
    expect(page).to_have_title("away · Pool")
    expect(page.locator("#logs")).to_contain_text("the service is away")
    again = serve("[models.m]\n[models.new]\n", listen=served.url.split("/")[2])
    is_live(page)
    expect(state(page, "m")).to_have_text("READY")
    expect(row(page, "new")).to_be_visible()
    expect(page).to_have_title("1 ready · Pool")
    expect(page.locator("#timeline .lane")).to_have_text(["m"])
    again.pool.evict("m")
    expect(state(page, "m")).to_have_text("not running")
    expect(page.locator("#logs")).to_contain_text("generation 1 has ended")


def calls_of(page: Page) -> list[Request]:
    """The calls that a page makes from now on."""
    calls: list[Request] = []
    page.on("request", lambda sent: calls.append(sent) if "/api/" in sent.url else None)
    return calls


def test_a_page_that_nobody_sees_asks_for_nothing_and_goes_on_where_it_was(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit("about:blank")
    page.clock.install()
    page.goto(served.url)
    is_live(page)
    button(page, "Logs", "m").click()
    expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
    ended: list[str] = []
    page.on("requestfailed", lambda sent: ended.append(sent.url.rpartition("/")[2]))
    page.evaluate(HIDE, arg=True)
    while sorted(set(ended)) != ["TailLogs", "Watch"]:
        page.wait_for_timeout(10)
    calls = calls_of(page)
    page.clock.run_for(600_000)
    assert [sent.url for sent in calls] == []
    served.pool.evict("m")
    served.pool.ensure("other")
    with page.expect_request("**/api/Watch") as watch:
        page.evaluate(HIDE, arg=False)
        page.clock.run_for(2_000)
    assert "after_revision" in (watch.value.post_data or "")
    expect(state(page, "other")).to_have_text("READY")
    expect(state(page, "m")).to_have_text("not running")
    expect(page.locator("#logs")).to_contain_text("generation 1 has ended")


def test_looking_is_no_use(serve: Serve, visit: Open) -> None:
    # No order by grace periods that end, nor by what is measured meanwhile.
    served = serve(
        "[defaults]\ngrace_period = 0\n"
        "[models.m]\nexpected_memory = '1GB'\n[models.n]\nexpected_memory = '2GB'\n"
    )
    served.pool.ensure("m")
    served.pool.ensure("n")
    before = {one.model: one for one in served.pool.list()}
    order = [one.model for one in served.pool.describe("m").next_to_go]
    page = visit(served.url)
    row(page, "n").locator("td.model > button").click()
    expect(page.locator("#describe")).to_contain_text("READY")
    expect(page.locator("#describe h3", has_text="Goes next")).to_be_visible()
    page.get_by_role("tab", name="Logs").click()
    expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
    for _ in range(3):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/Usage"))
    after = {one.model: one for one in served.pool.list()}
    for model, server in before.items():
        assert after[model].last_use_time == server.last_use_time
        assert after[model].expire_time == server.expire_time
        assert after[model].state == server.state
    assert [one.model for one in served.pool.describe("m").next_to_go] == order


def test_windows_share_the_connections_of_a_browser(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    first = visit(served.url)
    others = [first.context.new_page() for _ in range(7)]
    for page in others:
        page.goto(served.url)
    last = others[-1]
    expect(last.locator("#connection")).to_contain_text("other windows show this pool")
    # Its buttons and what is polled work all the same.
    button(last, "Pin", "m").click()
    expect(button(last, "Unpin", "m")).to_be_visible()
    for page in (first, *others[:-1]):
        page.close()
    is_live(last)
    served.pool.ensure("m")
    expect(state(last, "m")).to_have_text("READY")
