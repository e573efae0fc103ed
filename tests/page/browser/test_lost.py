"""Servers and services that die while somebody watches, and pages that nobody sees."""

import json
import os
import signal

from playwright.sync_api import Page, Request, Route, expect

from tests.page.browser.conftest import HIDE, Open, Serve, button, is_live, row, state


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
    served = serve("[models.m]\n[models.n]\n")
    served.pool.ensure("n")
    first = visit(served.url)
    others = [first.context.new_page() for _ in range(7)]
    for page in others:
        page.goto(served.url)
    last = others[-1]
    expect(last.locator("#connection")).to_contain_text("other windows show this pool")
    # Its buttons and what is polled work all the same.
    button(last, "Pin", "m").click()
    expect(button(last, "Unpin", "m")).to_be_visible()
    expect(state(last, "n")).to_have_text("READY")
    expect(button(last, "Start", "n")).to_be_hidden()
    button(last, "Evict", "n").click()
    expect(state(last, "n")).to_have_text("not running")
    for page in (first, *others[:-1]):
        page.close()
    is_live(last)
    served.pool.ensure("m")
    expect(state(last, "m")).to_have_text("READY")


# --- a service that recovers, and one that does not answer -----------------------------


def recovering(call: Route) -> None:
    """Answer a stream as a service that has just started."""
    error = {"code": "UNAVAILABLE", "reason": "RECOVERING", "message": "it has just started."}
    call.fulfill(content_type="application/x-ndjson", body=json.dumps({"error": error}) + "\n")


SHOWN = """
window.told = [];
addEventListener("DOMContentLoaded", () => {
  const connection = document.getElementById("connection");
  new MutationObserver(() => told.push(connection.textContent))
    .observe(connection, { childList: true });
});
"""


def test_a_log_outlasts_a_recovery_however_long_it_takes(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit("about:blank")
    page.add_init_script(SHOWN)
    page.goto(served.url)
    is_live(page)
    button(page, "Logs", "m").click()
    log = page.locator("#logs")
    expect(log).to_contain_text("Uvicorn running on")
    for method in ("Watch", "TailLogs"):
        page.route(f"**/api/{method}", recovering)
    served.service.process.kill()
    again = serve("[models.m]\n", listen=served.url.split("/")[2])
    expect(log).to_contain_text("it has just started.")
    expect(log).to_contain_text("Uvicorn running on")
    page.evaluate("told.length = 0")
    for _ in range(3):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/Watch"))
    assert "live" not in page.evaluate("told"), "it is away all the time"
    for method in ("Watch", "TailLogs"):
        page.unroute(f"**/api/{method}")
    is_live(page)
    expect(log).not_to_contain_text("it has just started.")
    expect(log).to_contain_text("Uvicorn running on")
    again.pool.evict("m")
    expect(log).to_contain_text("generation 1 has ended")


def test_a_log_waits_for_a_connection_that_is_free(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    busy = "64 connections are in use; try again later"
    page.route("**/api/TailLogs", lambda call: call.fulfill(status=503, body=busy))
    button(page, "Logs", "m").click()
    log = page.locator("#logs")
    expect(log).to_have_text(busy)
    page.unroute("**/api/TailLogs")
    expect(log).to_contain_text("Uvicorn running on")
    expect(log).not_to_contain_text(busy)


def test_what_changed_while_the_service_was_away_is_described_again(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    is_live(page)
    row(page, "m").locator("td.model > button").click()
    panel = page.locator("#describe")
    expect(panel).to_contain_text("READY")
    page.route("**/api/Watch", recovering)
    page.route("**/api/Describe", lambda call: call.abort())
    served.service.process.kill()
    expect(page.locator("#connection")).to_contain_text("away")
    again = serve("[models.m]\n", listen=served.url.split("/")[2])
    again.pool.evict("m")
    expect(panel).to_contain_text("READY")
    page.unroute("**/api/Describe")
    page.unroute("**/api/Watch")
    expect(panel).to_contain_text("not running")


def test_a_description_follows_holders_which_are_no_change_of_state(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    row(page, "m").locator("td.model > button").click()
    panel = page.locator("#describe")
    expect(panel).to_contain_text("READY")
    with served.pool.hold("m", holder="nightly"):
        expect(panel).to_contain_text("nightly, for")
        first = panel.locator("li", has_text="nightly").inner_text()
        expect(panel.locator("li", has_text="nightly")).not_to_have_text(first)
    expect(panel).not_to_contain_text("nightly, for")


def test_a_resumed_page_is_live_only_once_the_service_has_begun(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    is_live(page)
    kept: list[Route] = []

    def keep(call: Route) -> None:
        kept.append(call)

    page.route("**/api/Watch", keep)
    page.evaluate(HIDE, arg=True)
    page.evaluate("document.getElementById('connection').className = 'away'")
    page.evaluate(HIDE, arg=False)
    while not kept:
        page.wait_for_timeout(10)
    assert "after_revision" in (kept[0].request.post_data or "")
    assert page.locator("#connection").get_attribute("class") == "away"
    kept[0].continue_()
    # No change has come: an empty line tells.
    expect(page.locator("#connection")).to_have_class("live")


SOON = """
const real = AbortSignal.timeout.bind(AbortSignal);
window.hurry = 100;
AbortSignal.timeout = (ms) => real(ms / window.hurry);
"""


def test_polls_that_hang_are_told_and_so_is_their_end(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit("about:blank")
    page.add_init_script(SOON)
    page.route("**/api/Usage", lambda _call: None)
    page.goto(served.url)
    expect(page.locator("#connection")).to_contain_text("does not answer all that is asked")
    page.evaluate("window.hurry = 1")
    # What is followed works all the same.
    served.pool.ensure("m")
    expect(state(page, "m")).to_have_text("READY")
    page.unroute("**/api/Usage")
    is_live(page)
    expect(page.locator("#memory-text")).to_contain_text("reserved")


def test_a_stream_that_is_silent_too_long_is_begun_again(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit("about:blank")
    page.clock.install()
    page.goto(served.url)
    is_live(page)
    with page.expect_request("**/api/Watch") as again:
        # Its heartbeats come by the time of the service.
        page.clock.fast_forward(46_000)
    assert "after_revision" in (again.value.post_data or "")
    is_live(page)


COUNTED = """
window.listeners = 0;
for (const [name, step] of [["addEventListener", 1], ["removeEventListener", -1]]) {
  const real = document[name];
  document[name] = function (type, ...rest) {
    if (type === "visibilitychange") window.listeners += step;
    return real.call(this, type, ...rest);
  };
}
"""


def test_a_page_whose_service_is_away_keeps_as_few_listeners_as_before(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit("about:blank")
    page.add_init_script(COUNTED)
    page.goto(served.url)
    is_live(page)
    button(page, "Logs", "m").click()
    expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
    served.service.process.kill()
    expect(page.locator("#connection")).to_contain_text("away")
    for _ in range(6):
        page.wait_for_event("requestfailed", lambda sent: sent.url.endswith("/api/Watch"))
    assert page.evaluate("window.listeners") < 8
