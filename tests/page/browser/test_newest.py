"""Show the newest on the page where its sources differ: changes, polls and the list of models."""

import re
import threading
import time

import pytest
from playwright.sync_api import Page, Request, expect

from tests.page.browser.conftest import LIMIT_MS, Open, button, is_live, row, share_of_width, state
from tests.page.browser.scripted import GIB, REVISION, Json, Scripted, listed, server, use


def cell(page: Page, name: str, model: str = "m") -> str:
    return row(page, model).locator(f"td.{name}").inner_text()


def is_poll(asked: Request) -> bool:
    return asked.url.endswith("/api/Usage")


def polled(page: Page, times: int = 1) -> None:
    """Wait until the page has polled so often."""
    for _ in range(times):
        page.wait_for_event("response", lambda answer: answer.url.endswith("/api/Usage"))


# --- polled values and changes ----------------------------------------------------------


def test_what_was_polled_before_a_change_does_not_undo_it(told: Scripted, visit: Open) -> None:
    told.usage["servers"] = [use(state="STARTING", waiting_calls=1, footprint_bytes=GIB)]
    told.begin(server(state="STARTING"))
    page = visit(told.url)
    expect(row(page, "m").locator("td.uses")).to_have_text("1 call waits")
    expire = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
    told.tell(server=server(expire_time=expire))
    expect(state(page, "m")).to_have_text("READY")
    polled(page, 2)
    expect(row(page, "m").locator("td.leaves")).to_contain_text("in 4m")
    expect(row(page, "m").locator("td.uses")).to_have_text("")
    expect(page.locator("#facts")).to_have_text("1 ready")
    expect(page).to_have_title("1 ready · Pool")


def test_what_is_polled_after_a_change_is_newer_than_that(told: Scripted, visit: Open) -> None:
    told.begin(server(footprint_bytes=str(GIB // 4)))
    now = time.time()
    told.usage["servers"] = [use(footprint_bytes=GIB // 2, expire_time=now + 900, busy=True)]
    page = visit(told.url)
    expect(row(page, "m").locator("td.memory")).to_contain_text("537 MB of")
    expect(row(page, "m").locator("td.leaves")).to_contain_text("in 14m")
    expect(row(page, "m").locator("td.uses")).to_have_text("in use")


def test_what_polling_alone_tells_stays_over_a_change_of_another_kind(
    told: Scripted, visit: Open
) -> None:
    told.begin(server(state="STARTING"))
    told.usage["servers"] = [use(state="STARTING", waiting_calls=2)]
    page = visit(told.url)
    expect(row(page, "m").locator("td.uses")).to_have_text("2 calls wait")
    told.tell(server=server(state="STARTING", detail="loads", progress=0.5))
    expect(row(page, "m").locator(".why")).to_have_text("loads")
    expect(row(page, "m").locator("td.uses")).to_have_text("2 calls wait")


def test_an_answer_that_a_newer_one_has_overtaken_is_dropped(told: Scripted, visit: Open) -> None:
    answers, is_asked, go_on = iter([2 * GIB, 3 * GIB]), threading.Event(), threading.Event()

    def answer(_request: Json) -> Json:
        size = next(answers, 3 * GIB)
        if size == 2 * GIB:
            is_asked.set()
            go_on.wait()
        one = use(footprint_bytes=size, expected_bytes=4 * GIB)
        return told.told({"revision": "101", "servers": [one], "memory_current": True})

    told.answers["Usage"] = answer
    page = visit("about:blank")
    # The one that is overtaken is awaited however long that takes.
    page.add_init_script("AbortSignal.timeout = () => new AbortController().signal")
    with page.expect_request(is_poll) as first:
        page.goto(told.url)
    # Only then: the page polls anew as soon as it knows the servers.
    assert is_asked.wait(LIMIT_MS / 1000)
    told.begin(server(state="STARTING"))
    is_live(page)
    # A change is a reason to poll, while the first answer is awaited.
    told.tell(server=server(expected_bytes=str(4 * GIB)))
    expect(row(page, "m").locator("td.memory")).to_contain_text("3.2 GB of")
    with page.expect_event("requestfinished", lambda asked: asked == first.value):
        go_on.set()
    page.evaluate("() => new Promise((resolve) => requestAnimationFrame(() => resolve()))")
    assert "3.2 GB of" in cell(page, "memory")


# --- before the servers are known -------------------------------------------------------


def test_during_a_recovery_the_list_of_models_tells_what_they_do(
    told: Scripted, visit: Open
) -> None:
    told.usage |= {"revision": "", "servers": []}
    told.models = [listed("m", "READY"), listed("n", "STOPPING"), listed("o")]
    told.put({"error": {"code": "UNAVAILABLE", "reason": "RECOVERING", "message": "wait"}})
    page = visit(told.url)
    expect(state(page, "m")).to_have_text("READY")
    expect(button(page, "Evict", "m")).to_be_enabled()
    expect(button(page, "Start", "m")).to_be_hidden()
    expect(button(page, "Evict", "n")).to_be_disabled()
    expect(state(page, "o")).to_have_text("not running")
    expect(button(page, "Start", "o")).to_be_visible()
    told.usage |= {"revision": str(REVISION)}
    expect(state(page, "m")).to_have_text("not running")


def test_nothing_is_said_of_missing_models_before_they_are_read(
    told: Scripted, visit: Open
) -> None:
    go_on = threading.Event()

    def answer(request: Json) -> Json:
        go_on.wait()
        return told.listing(request)

    told.answers["ListModels"] = answer
    told.begin()
    page = visit(told.url)
    is_live(page)
    polled(page)
    expect(page.locator("#no-servers")).to_be_hidden()
    go_on.set()
    expect(page.locator("#no-servers")).to_be_visible()


def test_a_window_that_waits_for_its_turn_shows_the_servers_as_polled(
    told: Scripted, visit: Open
) -> None:
    told.models = [listed("m")]
    told.usage["servers"] = [use("m", footprint_bytes=GIB // 2), use("unlisted", "STARTING")]
    told.changes["changes"] = [change(time.time() - 60, "READY")]
    page = visit(told.url)
    # Its Watch tells nothing.
    expect(state(page, "m")).to_have_text("READY")
    expect(state(page, "unlisted")).to_have_text("STARTING")
    expect(row(page, "m").locator("td.memory")).to_contain_text("537 MB of")
    expect(page).to_have_title("1 starting, 1 ready · Pool")
    expect(page.locator("#timeline .lane")).to_have_text(["m"])
    told.usage["servers"] = [use("m", "FAILED")]
    with page.expect_response("**/api/Changes"):
        expect(state(page, "m")).to_have_text("FAILED")
    expect(row(page, "unlisted")).to_have_count(0)


def test_a_window_that_waits_for_its_turn_polls_no_more_often_than_others(
    told: Scripted, visit: Open
) -> None:
    told.usage["servers"] = [use(f"m{number:03}") for number in range(500)]
    page = visit("about:blank")
    page.clock.install()
    page.goto(told.url)
    page.clock.run_for(1_000)
    expect(page.locator("#servers tbody tr")).to_have_count(500)
    calls: list[str] = []
    page.on("request", lambda sent: calls.append(sent.url) if "Usage" in sent.url else None)
    with page.expect_response("**/api/Usage"):
        page.clock.run_for(20_000)
    assert len(calls) == 1, "not every two seconds"


# --- rows that are not the current server -----------------------------------------------


def test_only_the_row_of_the_current_server_has_buttons_that_change_it(
    told: Scripted, visit: Open
) -> None:
    told.begin(
        server("m", generation="2"),
        server("m", "STARTING", "SUCCESSOR", generation="3"),
        server("", "STOPPING", "ORPHAN", generation="4711"),
    )
    page = visit(told.url)
    is_live(page)
    rows = page.locator("#servers tbody tr")
    expect(rows).to_have_count(3)
    of = {one.locator(".sub").inner_text(): one.locator("td.acts") for one in rows.all()}
    buttons = {sub: acts.get_by_role("button").all_inner_texts() for sub, acts in of.items()}
    (successor,) = (sub for sub in buttons if sub.startswith("generation 3 · takes the place"))
    (orphan,) = (sub for sub in buttons if sub.startswith("left by an earlier service"))
    assert buttons == {"generation 2": ["Evict", "Pin", "Logs"], successor: ["Logs"], orphan: []}
    expect(page.get_by_role("button", name="orphan 4711")).to_be_disabled()
    expect(page.get_by_role("button", name="m generation 3", exact=True)).to_be_enabled()
    for name, generation in (("Logs m generation 3", "3"), ("Logs m", "2")):
        with page.expect_request("**/api/TailLogs") as asked:
            page.get_by_role("button", name=name, exact=True).click()
        assert (asked.value.post_data_json or {})["generation"] == generation
        page.get_by_role("button", name="Close", exact=True).click()


def test_a_name_that_has_become_an_alias_has_no_buttons_for_the_model_that_it_means(
    told: Scripted, visit: Open
) -> None:
    problem = "its name stands for 'n' now, so it is not served"
    told.models = [listed("m", "READY", problem=problem), listed("n", aliases=["m"])]
    told.begin(server("m"))
    page = visit(told.url)
    expect(state(page, "m")).to_have_text("READY")
    expect(row(page, "m").locator(".why")).to_have_text(problem)
    expect(row(page, "m").locator("td.acts").get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("button", name="m", exact=True)).to_be_disabled()
    expect(button(page, "Start", "n")).to_be_visible()


@pytest.mark.parametrize("role", ["SUPERSEDED", "ORPHAN"])
def test_what_is_left_under_the_pointer_of_such_a_row_cannot_be_started(
    role: str, told: Scripted, visit: Open
) -> None:
    old = server("" if role == "ORPHAN" else "m", "READY", role, generation="4")
    told.begin(server("m", generation="5"), old)
    page = visit(told.url)
    is_live(page)
    page.locator("#servers tbody tr").nth(1).hover()
    told.tell(removed=old)
    expect(page.locator("#servers tbody tr.absent")).to_have_count(1)
    expect(page.locator("#servers tbody tr.absent td.acts").get_by_role("button")).to_have_count(0)
    # Also when it is shown again.
    polled(page)
    expect(page.locator("#servers tbody tr.absent td.acts").get_by_role("button")).to_have_count(0)


# --- memory, and times ------------------------------------------------------------------


def test_memory_that_nobody_has_looked_at_is_left_out(told: Scripted, visit: Open) -> None:
    told.totals = {"memory_total_bytes": 0, "memory_available_bytes": 0}
    told.begin()
    page = visit(told.url)
    expect(page.locator("#memory-text")).to_have_text("0 B reserved, no budget")
    expect(page.locator("#memory-bar")).to_be_hidden()
    told.totals = {"memory_total_bytes": 64 * GIB, "memory_available_bytes": 32 * GIB}
    expect(page.locator("#memory-text")).to_contain_text("34.4 GB of 68.7 GB available")
    expect(page.locator("#memory-bar")).to_be_visible()
    told.usage["memory_current"] = False
    expect(page.locator("#memory-text")).to_have_text(
        "0 B reserved, no budget · 68.7 GB on the machine"
    )


@pytest.mark.parametrize("ahead_s", [-7200, 7200])
def test_times_are_by_the_clock_of_the_service(ahead_s: int, told: Scripted, visit: Open) -> None:
    told.now = lambda: time.time() + ahead_s
    now = told.now()
    told.usage["servers"] = [use(last_use_time=now - 90, expire_time=now + 3630)]
    told.changes = {"changes": [change(now - 90, "READY")], "since": now - 3000}
    told.begin(server())
    page = visit(told.url)
    expect(row(page, "m").locator("td.used")).to_have_text(re.compile(r"1m 3\ds ago"))
    expect(row(page, "m").locator("td.leaves")).to_have_text(re.compile(r"in 1h 0m"))
    stretch = page.locator("#timeline rect.is-ready")
    stretch.hover()
    expect(page.locator("#tip")).to_have_text(re.compile(r"READY from .* for 1m 3\ds"))


def test_a_time_of_another_day_has_its_date(told: Scripted, visit: Open) -> None:
    page = visit(told.url)
    days_ago = page.evaluate(
        "async (at) => (await import('/format.js')).clock(at)", time.time() - 3 * 86400
    )
    midnight = page.evaluate(
        "async (at) => (await import('/format.js')).clock(at / 1000)",
        page.evaluate("new Date().setHours(0, 0, 7, 0)"),
    )
    assert re.fullmatch(r"\w+ \w+, \d\d:\d\d:\d\d", days_ago)
    assert midnight == "00:00:07"


# --- the timeline -----------------------------------------------------------------------


def change(at: float, state_: str, **values: object) -> Json:
    known = {"model": "m", "generation": 1, "why": "", "cause": "", "preemptor": ""}
    return known | {"state": f"SERVER_STATE_{state_}" if state_ else "", "at": at} | values


def test_the_timeline_shows_since_when_all_is_known(told: Scripted, visit: Open) -> None:
    now = time.time()
    told.changes = {"changes": [change(now - 7000, "READY")], "since": now - 1800}
    told.begin(server())
    page = visit(told.url)
    unknown = page.locator("#timeline .unknown")
    expect(unknown).to_have_count(1)
    share = share_of_width(page, "#timeline .unknown", "#timeline rect.is-ready")
    assert share == pytest.approx(0.5, abs=0.02)
    unknown.hover(force=True)
    page.get_by_label("Span of the timeline").select_option("600")
    expect(unknown).to_have_count(0)


def test_a_timeline_that_could_not_be_read_is_read_again(told: Scripted, visit: Open) -> None:
    reads = 0

    def answer(_request: Json) -> Json:
        nonlocal reads
        reads += 1
        return {"status": 500} if reads == 1 else told.change_record()

    told.changes["changes"] = [change(time.time() - 60, "READY")]
    told.answers["Changes"] = answer
    told.begin(server())
    page = visit(told.url)
    expect(page.locator("#timeline .lane")).to_have_text(["m"])
    assert reads == 2


def test_the_timeline_is_read_also_while_changes_do_not_cease(told: Scripted, visit: Open) -> None:
    told.begin()
    page = visit("about:blank")
    page.clock.install()
    page.goto(told.url)
    is_live(page)
    page.clock.run_for(1000)
    page.evaluate(
        "async () => { const { Timeline } = await import('/timeline.js');"
        " window.own = new Timeline(() => true, (work) => { window.reads += 1; return work; });"
        " window.reads = 0; }"
    )
    # From now on, time passes only here.
    page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 60)
    for _ in range(5):
        page.evaluate("window.own.readSoon()")
        page.clock.run_for(100)
        page.clock.pause_at(page.evaluate("Date.now()") / 1000 + 0.001)
    assert page.evaluate("window.reads") >= 1


def test_why_servers_ended_can_be_read_without_a_pointer(told: Scripted, visit: Open) -> None:
    now = time.time()
    told.changes["changes"] = [
        change(now - 300, "READY"),
        change(now - 200, "STOPPING", cause="PREEMPTED", why="made room", preemptor="big"),
        change(now - 199, ""),
        change(now - 100, "QUEUED", generation=2),
        change(now - 90, "", generation=2, why="the download failed"),
    ]
    told.begin()
    page = visit(told.url)
    page.get_by_text("Why the last ones stopped").click()
    expect(page.get_by_role("listitem").filter(has_text="stopped at")).to_have_text(
        re.compile(r"m \(1\) stopped at [\d:]+: made room \(for big\)")
    )
    expect(page.locator("#ends li").first).to_contain_text("did not start")
    expect(page.locator("#ends li").first).to_contain_text("the download failed")
