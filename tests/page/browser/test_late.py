"""Starts and evictions that fail after their calls were accepted, and what a button waits for."""

import json
from pathlib import Path

from playwright.sync_api import Page, Request, Route, expect

from pool_service_client import ServerState
from tests.page.browser.conftest import Open, Serve, button, is_live, row, state

FULL = """
[memory]
budget = "6GB"
{more}
[models.held]
expected_memory = "5GB"
[models.m]
expected_memory = "5GB"
"""

NO_ROOM = "there was no room for 'm' within 3 s"


def test_a_start_that_fails_late_is_told_and_its_row_keeps_the_reason(
    serve: Serve, visit: Open
) -> None:
    served = serve(FULL.format(more="queue_timeout = '3s'"))
    page = visit(served.url)
    with served.pool.hold("held"):
        expect(state(page, "held")).to_have_text("READY")
        with page.expect_response("**/api/Ensure") as answered:
            button(page, "Start", "m").click()
        assert answered.value.status == 202
        expect(page.get_by_role("alert")).to_contain_text(NO_ROOM)
        expect(state(page, "m")).to_have_text("not running")
        expect(row(page, "m").locator(".why")).to_contain_text(NO_ROOM)
    served.pool.evict("held")
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("READY")
    expect(row(page, "m").locator(".why")).to_have_text("")
    button(page, "Evict", "m").click()
    expect(state(page, "m")).to_have_text("not running")
    expect(row(page, "m").locator(".why")).to_have_text("")


def test_a_start_that_is_given_up_leaves_no_reason_on_its_row(serve: Serve, visit: Open) -> None:
    served = serve(FULL.format(more=""))
    page = visit(served.url)
    with served.pool.hold("held"):
        expect(state(page, "held")).to_have_text("READY")
        button(page, "Start", "m").click()
        expect(row(page, "m").locator(".why")).to_contain_text("held")
        served.pool.evict("m", force=True)
        expect(state(page, "m")).to_have_text("not running")
        expect(row(page, "m").locator(".why")).to_have_text("")


def test_an_eviction_that_is_refused_late_asks_as_one_that_is_refused_at_once(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    error = {"code": "FAILED_PRECONDITION", "reason": "SERVER_IN_USE", "message": "'m' is in use."}
    ended: dict[str, object] = {}
    page.route(
        "**/api/Evict",
        lambda call: (
            call.continue_()
            if json.loads(call.request.post_data or "").get("force")
            else call.fulfill(status=202, json={"accepted": "1-1"})
        ),
    )
    page.route("**/api/Ended", lambda call: call.fulfill(json={"ended": ended}))
    with page.expect_response("**/api/Ended") as asked:
        button(page, "Evict", "m").click()
    assert asked.value.request.post_data == "1-1"
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_be_hidden()
    ended["1-1"] = error
    expect(dialog).to_contain_text("'m' is in use.")
    dialog.get_by_role("button", name="Evict").click()
    expect(state(page, "m")).to_have_text("not running")
    assert served.pool.list() == ()


def test_a_service_that_starts_again_meanwhile_says_that_it_does_not_know(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    # The number of an earlier service.
    answer = {"status": 202, "json": {"accepted": "0000-1"}}
    page.route("**/api/Ensure", lambda call: call.fulfill(**answer))
    button(page, "Start", "m").click()
    expect(page.get_by_role("alert")).to_contain_text("m: it is not known how this call ended")


def test_a_start_that_another_caller_ends_is_told_and_one_that_you_end_is_not(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    served = serve(f"[models.m]\nruntime_model = 'x?load_until={tmp_path}/loaded'\n")
    page = visit(served.url)
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("STARTING")
    button(page, "Evict", "m").click()
    expect(state(page, "m")).to_have_text("not running")
    # It is told as soon as the start has ended, which sets its button free.
    expect(button(page, "Start", "m")).not_to_have_attribute("aria-busy", "true")
    expect(page.get_by_role("alert").locator("p")).to_have_count(0)
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("STARTING")
    served.pool.evict("m", force=True)
    expect(page.get_by_role("alert")).to_contain_text("'m' was evicted")


# --- the rest of a click ----------------------------------------------------------------


def calls_of(page: Page) -> list[str]:
    """The methods that a page calls from now on."""
    calls: list[str] = []

    def note(sent: Request) -> None:
        if "/api/" in sent.url:
            calls.append(sent.url.rpartition("/")[2])

    page.on("request", note)
    return calls


def test_a_click_reads_only_what_it_changes(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    is_live(page)
    expect(button(page, "Logs", "m")).to_be_visible()
    calls = calls_of(page)
    button(page, "Logs", "m").click()
    page.get_by_role("tab", name="Describe").click()
    expect(page.locator("#describe")).to_contain_text("not running")
    page.keyboard.press("Escape")
    button(page, "Pin", "m").click()
    expect(button(page, "Unpin", "m")).to_be_visible()
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("READY")
    for _ in range(2):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/Usage"))
    assert {"TailLogs", "Describe", "Pin", "Ensure", "Usage"} <= set(calls)
    assert "ListModels" not in calls


def test_a_button_is_free_again_as_soon_as_its_call_has_ended(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    is_live(page)
    expect(button(page, "Pin", "m")).to_be_visible()
    kept: list[Route] = []

    def keep(call: Route) -> None:
        kept.append(call)

    for method in ("ListModels", "Usage"):
        page.route(f"**/api/{method}", keep)
    for text in ("Pin", "Unpin", "Pin"):
        button(page, text, "m").click()
        other = "Unpin" if text == "Pin" else "Pin"
        expect(button(page, other, "m")).to_be_visible()
    for call in kept:
        call.abort()
    served.pool.ensure("m")
    assert served.server("m").state is ServerState.READY
    assert served.server("m").pinned
