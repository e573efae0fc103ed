"""Questions before a server in use is evicted: read before they are answered, and of one server."""

import pytest
from playwright.sync_api import Page, Route, expect

from pool_service_client import ServerState
from tests.page.browser.conftest import Open, Serve, button, is_live, state
from tests.page.browser.scripted import Json, Scripted, server


def forced(page: Page) -> list[str]:
    """The models that a page evicts by force from now on."""
    models: list[str] = []

    def note(call: Route) -> None:
        request = call.request.post_data_json or {}
        if request.get("force"):
            models.append(request["model"])
        call.continue_()

    page.route("**/api/Evict", note)
    return models


SECOND_CLICK = """(one) => one.dispatchEvent(
  new MouseEvent("click", { detail: 2, bubbles: true, cancelable: true }))"""


def test_the_second_click_of_two_is_no_answer_to_the_next_question(
    serve: Serve, visit: Open
) -> None:
    served = serve("[models.m]\n[models.n]\n")
    page = visit(served.url)
    with served.pool.hold("m"), served.pool.hold("n"):
        for model in ("m", "n"):
            expect(state(page, model)).to_have_text("READY")
        for model in ("m", "n"):
            with page.expect_response("**/api/Evict"):
                # Also behind the question about the first.
                button(page, "Evict", model).dispatch_event("click")
        models = forced(page)
        dialog = page.get_by_role("alertdialog")
        expect(dialog).to_contain_text("'m'")
        dialog.get_by_role("button", name="Evict").dblclick()
        expect(state(page, "m")).to_have_text("not running")
        expect(dialog).to_contain_text("'n'")
        # The browser may have been too slow to show it before the second click.
        dialog.get_by_role("button", name="Evict").evaluate(SECOND_CLICK)
        dialog.get_by_role("button", name="Cancel").click()
        expect(dialog).to_be_hidden()
        assert models == ["m"]
        assert served.server("n").state is ServerState.READY


IN_USE: Json = {
    "status": 409,
    "code": "FAILED_PRECONDITION",
    "reason": "SERVER_IN_USE",
    "message": "'m' is held.",
}


@pytest.mark.parametrize("key", ["Enter", "Escape"])
def test_no_answer_is_taken_before_a_question_can_be_read(
    key: str, told: Scripted, visit: Open
) -> None:
    told.answers["Evict"] = lambda _request: dict(IN_USE)
    told.begin(server())
    page = visit("about:blank")
    page.clock.install()
    page.goto(told.url)
    is_live(page)
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 60)
    button(page, "Evict", "m").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_be_visible()
    yes = dialog.get_by_role("button", name="Evict")
    yes.click(force=True)
    page.keyboard.press(key)
    expect(yes).to_be_disabled()
    expect(dialog).to_be_visible()
    page.clock.run_for(500)
    page.keyboard.press(key)
    expect(dialog).to_be_hidden()


def test_an_answer_about_a_server_is_none_about_its_successor(told: Scripted, visit: Open) -> None:
    calls: list[Json] = []

    def answer(request: Json) -> Json:
        calls.append(request)
        return {"evicted": []} if request.get("force") else dict(IN_USE)

    told.answers["Evict"] = answer
    told.begin(server())
    page = visit(told.url)
    is_live(page)
    button(page, "Evict", "m").click()
    dialog = page.get_by_role("alertdialog")
    expect(dialog).to_be_visible()
    told.tell(removed=server())
    told.tell(server=server(generation="2"))
    told.tell(server=server("other"))
    expect(page.locator("#servers tbody tr")).to_have_count(2)
    with page.expect_response("**/api/Evict"):
        dialog.get_by_role("button", name="Evict").click()
    # It is asked again.
    expect(dialog).to_be_visible()
    assert [one.get("force", False) for one in calls] == [False, False]
    with page.expect_response("**/api/Evict"):
        dialog.get_by_role("button", name="Evict").click()
    expect(dialog).to_be_hidden()
    assert [one.get("force", False) for one in calls] == [False, False, True]
