"""A pool of 200 models."""

from playwright.sync_api import expect

from tests.page.browser.conftest import Open, Serve, is_live, row, state

COUNT = 200
RUNNING = 5
COUNT_CHANGES = """
window.changes = 0;
new MutationObserver((records) => { window.changes += records.length; }).observe(
  document.querySelector("#servers"),
  { subtree: true, childList: true, characterData: true, attributes: true },
);
"""


CHANGES_OF_A_ROW = 10
"""At most, each second."""


def test_200_models_are_shown_and_found_and_leave_the_browser_free(
    serve: Serve, visit: Open
) -> None:
    served = serve("".join(f"[models.model-{number:03}]\n" for number in range(COUNT)))
    for number in range(RUNNING):
        served.pool.ensure(f"model-{number:03}")
    page = visit(served.url)
    is_live(page)
    expect(page.locator("#servers tbody tr")).to_have_count(COUNT)
    expect(page.locator("#servers tbody tr.is-ready")).to_have_count(RUNNING)
    page.get_by_label("Find").fill("model-137")
    expect(page.locator("#servers tbody tr")).to_have_count(1)
    expect(row(page, "model-137")).to_be_visible()
    page.get_by_label("Find").fill("")
    served.pool.ensure("model-199")
    expect(state(page, "model-199")).to_have_text("READY")
    page.evaluate(COUNT_CHANGES)
    seconds = page.evaluate("performance.now()")
    for _ in range(2):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/Usage"))
    seconds = (page.evaluate("performance.now()") - seconds) / 1000
    # Only what runs is drawn anew: its ages, each second, and what has been polled.
    assert page.evaluate("window.changes") <= (RUNNING + 1) * CHANGES_OF_A_ROW * (seconds + 2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_the_timeline_of_many_has_so_many_lanes_and_says_how_many_more(
    serve: Serve, visit: Open
) -> None:
    served = serve()
    for number in range(43):
        served.pool.ensure(f"model-{number:03}")
        served.pool.evict(f"model-{number:03}")
    page = visit(served.url)
    expect(page.locator("#timeline .lane")).to_have_count(40)
    expect(page.locator("#more-lanes")).to_have_text("and 3 models more; Find shows them")
    page.get_by_label("Find").fill("model-000")
    expect(page.locator("#timeline .lane")).to_have_text(["model-000"])
