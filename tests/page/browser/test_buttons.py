"""Each button of the page does what it says."""

import threading
from pathlib import Path

from playwright.sync_api import Page, Route, expect

from pool_service_client import ServerState
from tests.page.browser.conftest import Open, Serve, button, is_live, row, state

DETAILS = "#details"


def test_start_and_evict(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("READY")
    assert served.server("m").state is ServerState.READY
    expect(button(page, "Start", "m")).to_be_hidden()
    button(page, "Evict", "m").click()
    expect(state(page, "m")).to_have_text("not running")
    assert served.pool.list() == ()


def test_a_start_takes_the_focus_with_it(serve: Serve, visit: Open) -> None:
    served = serve("[models.a]\n[models.m]\n[models.z]\n")
    page = visit(served.url)
    button(page, "Start", "m").focus()
    page.keyboard.press("Enter")
    expect(state(page, "m")).to_have_text("READY")
    # On the name, not on what would evict it.
    expect(row(page, "m").locator("td.model > button")).to_be_focused()
    expect(page.locator("#servers tbody tr").first).to_contain_text("READY")


def test_a_start_that_takes_long_goes_on_when_the_window_is_closed(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    loaded = tmp_path / "loaded"
    served = serve(f"[models.slow]\nruntime_model = 'x?load_until={loaded}'\n")
    page = visit(served.url)
    with page.expect_response("**/api/Ensure") as answered:
        button(page, "Start", "slow").click()
    assert answered.value.status == 202
    page.close()
    loaded.touch()
    assert served.pool.ensure("slow").server.state is ServerState.READY


def test_one_that_is_in_use_is_evicted_only_after_a_confirmation(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    with served.pool.hold("m"):
        expect(state(page, "m")).to_have_text("READY")
        button(page, "Evict", "m").click()
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_contain_text("held")
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()
        assert served.server("m").state is ServerState.READY
        button(page, "Evict", "m").click()
        dialog.get_by_role("button", name="Evict").click()
        expect(state(page, "m")).to_have_text("not running")
        assert served.pool.list() == ()


def test_of_two_that_are_in_use_each_has_a_question_of_its_own(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n[models.n]\n")
    page = visit(served.url)
    asked: list[Route] = []

    def keep_two(call: Route) -> None:
        if len(asked) < 2:
            asked.append(call)
        else:
            call.continue_()

    page.route("**/api/Evict", keep_two)
    with served.pool.hold("m"), served.pool.hold("n"):
        for model in ("m", "n"):
            expect(state(page, model)).to_have_text("READY")
            button(page, "Evict", model).click()
        while len(asked) < 2:
            page.wait_for_timeout(10)
        for call in asked:
            call.continue_()
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_contain_text("held")
        first = "m" if "'m'" in dialog.inner_text() else "n"
        second = "n" if first == "m" else "m"
        dialog.get_by_role("button", name="Evict").click()
        expect(dialog).to_contain_text(f"'{second}'")
        dialog.get_by_role("button", name="Cancel").click()
        expect(state(page, first)).to_have_text("not running")
        assert served.server(second).state is ServerState.READY


def test_a_refused_call_is_told(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\nexpected_memory = '900TB'\n")
    page = visit(served.url)
    button(page, "Start", "m").click()
    expect(page.get_by_role("alert")).to_contain_text("900")
    page.get_by_role("alert").get_by_role("button", name="Dismiss").click()
    expect(page.get_by_role("alert").locator("p")).to_have_count(0)


def test_pin_and_unpin(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    page = visit(served.url)
    button(page, "Pin", "m").click()
    expect(button(page, "Unpin", "m")).not_to_have_attribute("aria-pressed", "true")
    served.pool.ensure("m")
    expect(row(page, "m").locator("td.leaves")).to_have_text("pinned")
    button(page, "Unpin", "m").click()
    expect(button(page, "Pin", "m")).to_be_visible()
    assert not served.server("m").pinned


def test_logs_follow_what_is_written_over_generations(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    button(page, "Logs", "m").click()
    log = page.locator(f"{DETAILS} #logs")
    expect(log).to_contain_text("Uvicorn running on")
    first = served.server("m").endpoint
    served.pool.evict("m")
    expect(log).to_contain_text("INFO:     Shutting down")
    expect(log).to_contain_text("generation 1 has ended")
    served.pool.ensure("m")
    second = served.server("m").endpoint
    expect(log).to_contain_text(second)
    assert first in log.inner_text()


def test_a_line_of_a_log_is_text(serve: Serve, visit: Open) -> None:
    served = serve(
        "[service]\ncrash_limit = 1\n"
        "[models.m]\nruntime_model = 'x?die=1&say=<script>alert(1)</script><b>bold</b>'\n"
    )
    page = visit(served.url)
    button(page, "Start", "m").click()
    expect(state(page, "m")).to_have_text("FAILED")
    button(page, "Logs", "m").click()
    log = page.locator(f"{DETAILS} #logs")
    expect(log).to_contain_text("<script>alert(1)</script><b>bold</b>")
    assert log.locator("b, script").count() == 0


def test_a_long_log_takes_a_bounded_part_of_the_page(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\nruntime_model = 'x?log=2000000'\n")
    served.pool.ensure("m")
    page = visit(served.url)
    button(page, "Logs", "m").click()
    log = page.locator(f"{DETAILS} #logs")
    expect(log).to_contain_text("a line of the log that is there to be long")
    served.pool.evict("m")
    served.pool.ensure("m")
    served.pool.evict("m")
    expect(log).to_contain_text("generation 2 has ended")
    assert 1000 < log.inner_text().count("\n") < 3100, "of 38,000"
    assert page.evaluate(
        "() => { const log = document.getElementById('logs');"
        " return log.scrollTop + log.clientHeight >= log.scrollHeight - 30; }"
    ), "its end is seen"


def test_describe_tells_what_the_service_knows(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\nexpected_memory = '2GB'\n")
    served.pool.ensure("m")
    page = visit(served.url)
    row(page, "m").get_by_role("button", name="m", exact=True).click()
    panel = page.locator("#describe")
    for text in ("READY", "2.0 GB", '[models."m"]', "Starts, the newest first", "cold"):
        expect(panel).to_contain_text(text)
    served.pool.evict("m")
    # It is described again.
    expect(panel).to_contain_text("not running")
    expect(panel).to_contain_text("evicted")


def dialog_is(page: Page, *, is_open: bool) -> None:
    expect(page.locator(DETAILS)).to_be_visible(visible=is_open)


def test_the_dialog_has_tabs_and_closes(serve: Serve, visit: Open) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    page = visit(served.url)
    button(page, "Logs", "m").click()
    describe, logs = (page.get_by_role("tab", name=name) for name in ("Describe", "Logs"))
    expect(logs).to_have_attribute("aria-selected", "true")
    describe.click()
    expect(page.locator("#describe")).to_contain_text("READY")
    expect(page.locator("#logs")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(logs).to_be_focused()
    expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
    page.get_by_role("button", name="Close").click()
    dialog_is(page, is_open=False)
    button(page, "Logs", "m").click()
    dialog_is(page, is_open=True)
    page.keyboard.press("Escape")
    dialog_is(page, is_open=False)
    expect(button(page, "Logs", "m")).to_be_focused()
    with page.expect_event("requestfailed", lambda sent: "TailLogs" in sent.url):
        button(page, "Logs", "m").click()
        expect(page.locator("#logs")).to_contain_text("Uvicorn running on")
        page.mouse.click(2, 2)
    dialog_is(page, is_open=False)


def test_find_shows_models_by_part_of_a_name_or_alias(serve: Serve, visit: Open) -> None:
    served = serve("[models.gemma]\naliases = ['assistant']\n[models.qwen]\n")
    page = visit(served.url)
    expect(row(page, "qwen")).to_be_visible()
    find = page.get_by_label("Find")
    find.fill("EMM")
    expect(page.locator("#servers tbody tr")).to_have_count(1)
    expect(row(page, "gemma")).to_be_visible()
    find.fill("assis")
    expect(row(page, "gemma")).to_be_visible()
    find.fill("nothing")
    expect(page.locator("#nothing-found")).to_be_visible()
    find.fill("")
    expect(page.locator("#servers tbody tr")).to_have_count(2)


def test_rows_stay_where_they_are_under_the_pointer(serve: Serve, visit: Open) -> None:
    served = serve("[models.a]\n[models.b]\n[models.c]\n")
    page = visit(served.url)
    is_live(page)
    names = page.locator("#servers tbody td.model > button")
    expect(names).to_have_text(["a", "b", "c"])
    button(page, "Start", "b").hover()
    waiting = threading.Thread(target=served.pool.ensure, args=("c",))
    waiting.start()
    expect(state(page, "c")).to_have_text("READY")
    waiting.join()
    expect(names).to_have_text(["a", "b", "c"])
    page.mouse.move(5, 5)
    expect(names).to_have_text(["c", "a", "b"])
