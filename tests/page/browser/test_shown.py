"""What the page shows of a real service."""

import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pool_service_client import PoolClient
from tests.page.browser.conftest import Open, Serve, is_live, row, share_of_width, state

MODELS = """
[memory]
budget = "24GB"
[defaults]
grace_period = 0
[models."qwen"]
expected_memory = "2.5GB"
runtime_model = "community/Qwen"
aliases = ["assistant"]
[models."gemma"]
expected_memory = "7GB"
"""


def texts(page: Page, selector: str) -> str:
    return page.locator(selector).inner_text()


def test_the_pool_at_a_glance(serve: Serve, visit: Open) -> None:
    served = serve(MODELS)
    served.pool.ensure("qwen")
    page = visit(served.url)
    expect(state(page, "qwen")).to_have_text("READY")
    expect(row(page, "qwen").locator(".sub")).to_have_text("community/Qwen · also assistant")
    expect(row(page, "qwen").locator("td.memory")).to_contain_text("of 2.5 GB")
    expect(row(page, "qwen").locator("td.used")).to_contain_text("ago")
    expect(row(page, "qwen").locator("td.leaves")).to_contain_text("next to go")
    expect(state(page, "gemma")).to_have_text("not running")
    expect(row(page, "gemma").locator("td.memory")).to_have_text("needs 7.0 GB")
    expect(page.locator("#memory-text")).to_contain_text("2.5 GB reserved of 24.0 GB budget")
    expect(page.locator("#memory-bar > span")).to_have_count(1)
    share = share_of_width(page, "#memory-bar > span", "#memory-bar")
    assert share == pytest.approx(2.5 / 24, rel=0.05)
    expect(page.locator("#facts")).to_have_text("1 ready")
    expect(page).to_have_title("1 ready · Pool")


def test_a_start_is_shown_with_its_progress_and_who_waits(
    serve: Serve, visit: Open, tmp_path: Path
) -> None:
    loaded = tmp_path / "loaded"
    served = serve(f"[models.slow]\nruntime_model = 'x?load_until={loaded}'\n")
    page = visit(served.url)
    expect(state(page, "slow")).to_have_text("not running")
    with PoolClient.connect(served.service.address) as other:
        call = threading.Thread(target=other.ensure, args=("slow",))
        call.start()
        expect(state(page, "slow")).to_have_text("STARTING")
        expect(row(page, "slow").get_by_role("progressbar")).to_be_visible()
        expect(row(page, "slow").locator("td.uses")).to_have_text("1 call waits")
        expect(page.locator("#facts")).to_have_text(re.compile("1 starting[^.]*1 call waits"))
        expect(page).to_have_title("1 starting, 0 ready · Pool")
        loaded.touch()
        expect(state(page, "slow")).to_have_text("READY")
        expect(row(page, "slow").get_by_role("progressbar")).to_be_hidden()
        call.join()


def test_holds_and_pins_are_shown_as_they_come_and_go(serve: Serve, visit: Open) -> None:
    served = serve()
    page = visit(served.url)
    with served.pool.hold("m"):
        expect(row(page, "m").locator("td.uses")).to_have_text("held")
        expect(row(page, "m").locator("td.leaves")).to_have_text("not while held")
    expect(row(page, "m").locator("td.uses")).to_have_text("")
    served.pool.pin("m")
    expect(row(page, "m").locator("td.leaves")).to_have_text("pinned")
    served.pool.pin("m", pinned=False)
    expect(row(page, "m").locator("td.leaves")).to_contain_text("next to go")


def test_a_failure_is_shown_with_its_reason_as_text(serve: Serve, visit: Open) -> None:
    served = serve(
        "[service]\ncrash_limit = 1\n[models.broken]\n"
        "runtime_model = 'x?die=1&say=RuntimeError:+<img/src=x+onerror=alert(1)>'\n"
    )
    page = visit(served.url)
    with pytest.raises(Exception, match="died"):
        served.pool.ensure("broken")
    expect(state(page, "broken")).to_have_text("FAILED")
    expect(row(page, "broken").locator(".why")).to_contain_text("<img/src=x onerror=alert(1)>")
    assert page.locator("#servers img").count() == 0
    first = page.locator("#servers tbody tr").first
    expect(first.locator("td.model > button")).to_have_text("broken")
    expect(page.locator("#timeline .crash")).not_to_have_count(0)


def test_the_timeline_has_a_lane_for_each_model_and_a_mark_for_an_eviction(
    serve: Serve, visit: Open
) -> None:
    served = serve()
    for model in ("one", "two"):
        served.pool.ensure(model)
    served.pool.evict("one")
    page = visit(served.url)
    expect(page.locator("#timeline .lane")).to_have_text(["two", "one"])
    expect(page.locator("#timeline .stop")).to_have_count(1)
    page.locator("#timeline .stop").hover()
    expect(page.locator("#tip")).to_contain_text("stopped at")
    expect(page.locator("#tip")).to_contain_text("it was evicted")
    page.get_by_text("Why the last ones stopped").click()
    expect(page.locator("#ends")).to_contain_text("it was evicted")
    served.pool.ensure("three")
    expect(page.locator("#timeline .lane", has_text="three")).to_be_visible()


def test_an_eviction_for_another_model_names_it(serve: Serve, visit: Open) -> None:
    big = "[models.a]\nexpected_memory='5GB'\n[models.b]\nexpected_memory='5GB'\n"
    served = serve(f"[memory]\nbudget = '6GB'\n[defaults]\ngrace_period = 0\n{big}")
    served.pool.ensure("a")
    served.pool.ensure("b")
    page = visit(served.url)
    page.locator("#timeline .stop").hover()
    expect(page.locator("#tip")).to_contain_text("made room for another model (for b)")


def test_the_span_of_the_timeline_can_be_chosen(serve: Serve, visit: Open) -> None:
    served = serve()
    served.pool.ensure("m")
    page = visit(served.url)
    span = page.get_by_label("Span of the timeline")
    expect(span).to_have_value("600")
    wide = page.locator("#timeline rect.is-ready")
    expect(wide).to_have_count(1)
    span.select_option("86400")
    expect(page.locator("#timeline rect.is-ready")).to_have_attribute("width", "1.5")


def test_a_pool_without_models_says_how_to_get_one(serve: Serve, visit: Open) -> None:
    page = visit(serve().url)
    is_live(page)
    expect(page.locator("#no-servers")).to_contain_text("pool-service ensure MODEL")


def test_on_a_phone_nothing_is_wider_than_the_screen(serve: Serve, visit: Open) -> None:
    long = "model/" + "with-a-long-name-" * 6
    served = serve(MODELS + f"[models.'{long}']\n")
    for model in ("qwen", "gemma"):
        served.pool.ensure(model)
    page = visit(served.url, viewport={"width": 390, "height": 844})
    expect(state(page, "gemma")).to_have_text("READY")
    expect(row(page, long)).to_be_visible()
    expect(page.locator("#timeline .lane")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    row(page, "qwen").locator("td.model > button").click()
    expect(page.get_by_role("tabpanel")).to_contain_text("READY")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def brightness(page: Page, selector: str, name: str) -> float:
    """Of a computed colour, from 0 to 1."""
    color = page.locator(selector).first.evaluate(
        "(element, name) => getComputedStyle(element)[name]", name
    )
    numbers = [float(number) for number in re.findall(r"[\d.]+", color)[:3]]
    return sum(numbers) / 3 / 255


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system(scheme: str, serve: Serve, visit: Open) -> None:
    served = serve()
    served.pool.ensure("m")
    page = visit(served.url, color_scheme=scheme)
    expect(state(page, "m")).to_have_text("READY")
    ground = brightness(page, "body", "backgroundColor")
    text = brightness(page, "td.model > button", "color")
    assert (ground > 0.9, text < 0.2) if scheme == "light" else (ground < 0.2, text > 0.8)
    assert abs(ground - text) > 0.6


def test_without_the_page_there_are_metrics_alone(serve: Serve, visit: Open) -> None:
    served = serve("page = false\n")
    page = visit(f"{served.url}healthz")
    expect(page.locator("body")).to_have_text("ok")
    for method, path in (("GET", ""), ("GET", "page.js"), ("POST", "api/Evict")):
        answer = page.request.fetch(served.url + path, method=method, headers={"X-Pool": "1"})
        assert answer.status == 404
