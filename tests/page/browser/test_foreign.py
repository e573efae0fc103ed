"""A page of another site, in the same browser, can neither read the pool nor change it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from playwright.sync_api import Browser, Page, expect

from pool_service_client import ServerState
from tests.page.browser.conftest import LIMIT_MS, Serve, Served


class Foreign(BaseHTTPRequestHandler):
    """An empty page, for whatever is asked."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>foreign</title><body></body>")

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


@contextmanager
def another_site() -> Iterator[str]:
    """Another port of this machine, which is another origin, though the same site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def foreign(browser: Browser) -> Iterator[Page]:
    with another_site() as url, browser.new_context() as context:
        context.set_default_timeout(LIMIT_MS)
        page = context.new_page()
        page.goto(url)
        yield page


FETCH = """async ([url, options]) => {
  try {
    const answer = await fetch(url, options);
    return `${answer.type} ${answer.status} ${(await answer.text()).length}`;
  } catch (error) {
    return error.name;
  }
}"""

FORM = """(url) => {
  const form = document.createElement("form");
  Object.assign(form, { method: "post", action: url, target: "hidden", enctype: "text/plain" });
  const field = document.createElement("input");
  Object.assign(field, { name: '{"model": "m", "x":"', value: '"}' });
  const frame = document.createElement("iframe");
  frame.name = "hidden";
  form.append(field);
  document.body.append(frame, form);
  form.submit();
}"""


def is_unchanged(served: Served) -> None:
    assert served.server("m").state is ServerState.READY
    assert served.server("m").generation == 1


@pytest.mark.parametrize(
    "options",
    [
        {"method": "POST", "body": '{"model": "m"}'},
        {"method": "POST", "body": '{"model": "m"}', "headers": {"X-Pool": "1"}},
        {"method": "POST", "body": '{"model": "m"}', "credentials": "include"},
        {"method": "GET"},
    ],
    ids=["simple", "with the header", "with cookies", "get"],
)
def test_it_cannot_call(options: dict[str, object], serve: Serve, foreign: Page) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    for method in ("Evict", "Ensure", "Pin", "ListModels", "TailLogs", "Usage", "Describe"):
        found = foreign.evaluate(FETCH, [f"{served.url}api/{method}", options])
        assert found == "TypeError", method
    is_unchanged(served)


def test_it_cannot_call_without_reading_either(serve: Serve, foreign: Page) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    options = {"method": "POST", "mode": "no-cors", "body": '{"model": "m", "force": true}'}
    found = foreign.evaluate(FETCH, [f"{served.url}api/Evict", options])
    assert found in ("TypeError", "opaque 0 0")
    is_unchanged(served)


def test_it_cannot_send_a_form(serve: Serve, foreign: Page) -> None:
    served = serve("[models.m]\n")
    served.pool.ensure("m")
    with foreign.expect_response("**/api/Evict") as answered:
        foreign.evaluate(FORM, f"{served.url}api/Evict")
    assert answered.value.status == 403
    is_unchanged(served)


def test_it_cannot_put_the_page_into_a_frame(serve: Serve, foreign: Page) -> None:
    served = serve("[models.m]\n")
    foreign.evaluate(
        "(url) => { const frame = document.createElement('iframe'); frame.src = url;"
        " document.body.append(frame); }",
        served.url,
    )
    frame = foreign.frame_locator("iframe")
    expect(foreign.locator("iframe")).to_be_visible()
    foreign.wait_for_function("document.querySelector('iframe').contentDocument === null")
    expect(frame.locator("#connection")).to_have_count(0)
    assert all("chrome-error" in one.url or one == foreign.main_frame for one in foreign.frames)


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
def test_it_cannot_read_metrics(mode: str, serve: Serve, foreign: Page) -> None:
    found = foreign.evaluate(FETCH, [f"{serve().url}metrics", {"mode": mode}])
    assert found in ("TypeError", "opaque 0 0")


def test_it_cannot_use_its_files(serve: Serve, foreign: Page) -> None:
    served = serve()
    found = foreign.evaluate(
        "(url) => new Promise((resolve) => { const one = document.createElement('script');"
        " one.src = url; one.onload = () => resolve('loaded'); one.onerror = () => resolve('kept');"
        " document.body.append(one); })",
        f"{served.url}format.js",
    )
    assert found == "kept"
