"""A real service with its page, and headless Chromium to look at it."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Error,
    Locator,
    Page,
    expect,
    sync_playwright,
)

from pool_service_client import PoolClient, Server
from tests.page.browser.scripted import Scripted, scripted
from tests.service.conftest import FAKE_RUNTIME
from tests.service.metrics import http_address
from tools.demo.service import RunningService, running

LIMIT_MS = 60_000
"""However loaded the machine is."""

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")

# Violations of the policy are told, though no test waits for one.
LISTENING = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""

REFUSED_CALL = "Failed to load resource:"
"""Chromium tells of each answer that is no success, and of a service that is away."""


def chromium() -> str | None:
    """Where Chromium is, or None."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here, is_missing = Path(__file__).parent, chromium() is None and not os.environ.get("CI")
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.process)
            if is_missing:
                item.add_marker(pytest.mark.skip(reason="Chromium is not there"))


@dataclass(frozen=True, slots=True)
class Served:
    """A service, a client of it, and the address of its page."""

    service: RunningService
    pool: PoolClient
    url: str

    def server(self, model: str) -> Server:
        """The only server of a model."""
        (found,) = [one for one in self.pool.list() if one.model == model]
        return found


Serve = Callable[..., Served]
Open = Callable[..., Page]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all: its loop would be in the way of asynchronous tests."""
    expect.set_options(timeout=LIMIT_MS)
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield program
        program.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts services with pages. more: configuration; listen: the address of the page."""
    with ExitStack() as stack:

        def start_one(more: str = "", listen: str = "127.0.0.1:0") -> Served:
            path = tmp_path / "pool.toml"
            path.write_text(f'{FAKE_RUNTIME}[http]\nlisten = "{listen}"\n{more}')
            arguments = ["--config", str(path)]
            service = stack.enter_context(running(tmp_path / "state", arguments=arguments))
            pool = stack.enter_context(PoolClient.connect(service.address))
            return Served(service, pool, f"http://{http_address(service)}/")

        yield start_one


@pytest.fixture
def visit(browser: Browser) -> Iterator[Open]:
    """Opens pages; at the end no script has failed, and nothing was against the policy."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def open_one(url: str, **options: object) -> Page:
        context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))  # type: ignore[arg-type]
        contexts.append(context)
        context.set_default_timeout(LIMIT_MS)
        context.add_init_script(LISTENING)
        # Of each page that the test opens in it.
        context.on("weberror", lambda failed: troubles.append(str(failed.error)))
        context.on(
            "console",
            lambda told: (
                troubles.append(told.text)
                if told.type == "error" and not told.text.startswith(REFUSED_CALL)
                else None
            ),
        )
        page = context.new_page()
        load(page, url)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert not troubles


@pytest.fixture
def told() -> Iterator[Scripted]:
    """A service that answers what the test says."""
    with scripted() as service:
        yield service


NETWORK_CHANGED = "net::ERR_NETWORK_CHANGED"

FILES_OF_PAGE = frozenset({"document", "script", "stylesheet"})


def load(page: Page, url: str) -> None:
    """Open a page with all its files.

    Chromium cancels requests, also those to loopback, while the machine gets or loses an interface,
    as when tests of fleets run beside these. Without one of its scripts a page never begins.
    """
    cut: list[str] = []
    page.on(
        "requestfailed",
        lambda request: (
            cut.append(request.url)
            if request.failure == NETWORK_CHANGED and request.resource_type in FILES_OF_PAGE
            else None
        ),
    )
    while True:
        cut.clear()
        try:
            page.goto(url)
        except Error as error:
            if NETWORK_CHANGED not in error.message:
                raise
        else:
            if not cut:
                return


HIDE = """(isHidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
"""Hides a page from everybody, or shows it again."""


def share_of_width(page: Page, part: str, whole: str) -> float:
    """Return how much of an element's width another one takes, by their selectors.

    Both are measured in one step of the page: between two the page may draw them anew.
    """
    share: float = page.evaluate(
        """(selectors) => {
          const [part, whole] = selectors.map(
            (selector) => document.querySelector(selector).getBoundingClientRect().width);
          return part / whole;
        }""",
        [part, whole],
    )
    return share


def row(page: Page, model: str) -> Locator:
    """The row of a model."""
    named = page.locator("td.model > button", has_text=re.compile(f"^{re.escape(model)}$"))
    return page.locator("#servers tbody tr").filter(has=named)


def state(page: Page, model: str) -> Locator:
    """The word for the state of a model."""
    return row(page, model).locator("td.state .name")


def button(page: Page, text: str, model: str) -> Locator:
    """A button in the row of a model."""
    return row(page, model).get_by_role("button", name=f"{text} {model}", exact=True)


def is_live(page: Page) -> None:
    """Wait until the page follows the pool."""
    expect(page.locator("#connection")).to_have_text("live")
