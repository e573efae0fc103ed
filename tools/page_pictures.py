"""Takes the pictures of the page in docs/pictures: a real service, a small stand-in for models.

    python -m tools.page_pictures            writes docs/pictures/page-light.png and page-dark.png
    python -m tools.page_pictures DIRECTORY  writes these and more into another directory

Needs Chromium, and the packages of the tests.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, Page, sync_playwright

from pool_service_client import PoolClient, PoolError
from tools.demo.service import running

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = ROOT / "docs/pictures"
STAND_IN: Final = ROOT / "tests/fake_server.py"
PROGRAMS: Final = ("chromium", "chromium-browser", "google-chrome")
DESKTOP: Final = (1060, 900)
PHONE: Final = (390, 844)
SETTLE_MS: Final = 3000
"""Until what the page polls is there, and transitions have ended."""


def _runtime(section: str, how: str) -> str:
    """Return a section of the stand-in for vllm-mlx. how: what it does, as its own help says."""
    return f"""{section}
kind = "vllm-mlx"
command = ['{sys.executable}', '-S', '-E', '{STAND_IN}',
           'serve', '{{runtime_model}}{how}', '--port', '{{port}}']"""


CONFIG: Final = f"""
[http]
listen = "127.0.0.1:9499"
[memory]
budget = "24GB"
[service]
crash_limit = 1
{_runtime("[runtime]", "")}
{_runtime("[runtimes.small]", "?rss=400")}
{_runtime("[runtimes.large]", "?rss=2500")}
{_runtime("[runtimes.slow]", "?load=90")}
{_runtime("[runtimes.broken]", "?die=1&say=ValueError:+Model+type+whisper+not+supported")}
[defaults]
grace_period = 0
[models."qwen3-4b"]
expected_memory = "2.5GB"
aliases = ["assistant"]
[models."qwen3-30b-a3b"]
expected_memory = "9GB"
[models."gemma-3-12b"]
expected_memory = "7GB"
runtime = "large"
[models."mistral-7b"]
expected_memory = "4.5GB"
[models."llama-3.2-3b"]
expected_memory = "2GB"
runtime = "small"
[models."phi-4"]
expected_memory = "6GB"
runtime = "slow"
[models."whisper-large"]
runtime = "broken"
expected_memory = "1GB"
"""

# What an earlier service has done: minutes ago, model, generation, from, to, cause, and for whom.
STORY: Final = (
    (52, "qwen3-4b", 1, None, "STARTING", "", ""),
    (51.4, "qwen3-4b", 1, "STARTING", "READY", "", ""),
    (47, "qwen3-30b-a3b", 1, None, "STARTING", "", ""),
    (44, "qwen3-30b-a3b", 1, "STARTING", "READY", "", ""),
    (36, "mistral-7b", 1, None, "STARTING", "", ""),
    (35, "mistral-7b", 1, "STARTING", "READY", "", ""),
    (31, "qwen3-4b", 1, "READY", "STOPPING", "IDLE", ""),
    (30.8, "qwen3-4b", 1, "STOPPING", None, "IDLE", ""),
    (26, "gemma-3-12b", 1, None, "QUEUED", "", ""),
    (25.6, "qwen3-30b-a3b", 1, "READY", "STOPPING", "PREEMPTED", "gemma-3-12b"),
    (25, "qwen3-30b-a3b", 1, "STOPPING", None, "PREEMPTED", ""),
    (24.8, "gemma-3-12b", 1, "QUEUED", "STARTING", "", ""),
    (23, "gemma-3-12b", 1, "STARTING", "READY", "", ""),
    (17, "mistral-7b", 1, "READY", "CLEANING_UP", "CRASHED", ""),
    (16.9, "mistral-7b", 1, "CLEANING_UP", "BACKING_OFF", "", ""),
    (16.5, "mistral-7b", 2, None, "STARTING", "", ""),
    (15.5, "mistral-7b", 2, "STARTING", "READY", "", ""),
    (9, "gemma-3-12b", 1, "READY", "STOPPING", "EVICTED", ""),
    (8.8, "gemma-3-12b", 1, "STOPPING", None, "EVICTED", ""),
    (4, "mistral-7b", 2, "READY", "STOPPING", "IDLE", ""),
    (3.8, "mistral-7b", 2, "STOPPING", None, "IDLE", ""),
)


def main(arguments: list[str]) -> int:
    """Take the pictures; return the exit code."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        print("page_pictures: Chromium is not there", file=sys.stderr)
        return 1
    directory = Path(arguments[0]) if arguments else PICTURES
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright, _pool() as url:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        for scheme in ("light", "dark"):
            page = _page(browser, url, scheme, DESKTOP)
            _take(page, directory / ("page-" * (not arguments) + f"{scheme}.png"))
        if arguments:
            _take_more(browser, url, directory)
        browser.close()
    return 0


def _take_more(browser: Browser, url: str, directory: Path) -> None:
    """Take a phone's picture, and those of the dialog."""
    _take(_page(browser, url, "dark", PHONE), directory / "phone.png")
    page = _page(browser, url, "light", DESKTOP)
    for model, button, name in (
        ("qwen3-30b-a3b", "Describe", "describe"),
        ("whisper-large", "Logs", "logs"),
    ):
        if button == "Logs":
            page.get_by_role("button", name=f"Logs {model}", exact=True).click()
        else:
            page.get_by_role("button", name=model, exact=True).click()
        page.wait_for_timeout(SETTLE_MS)
        page.screenshot(path=directory / f"{name}.png")
        page.keyboard.press("Escape")


def _page(browser: Browser, url: str, scheme: str, size: tuple[int, int]) -> Page:
    width, height = size
    page = browser.new_page(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": height},
    )
    page.goto(url)
    page.wait_for_selector("#connection.live")
    page.get_by_label("Span of the timeline").select_option("3600")
    page.wait_for_timeout(SETTLE_MS)
    return page


def _take(page: Page, path: Path) -> None:
    page.screenshot(path=path, full_page=True)
    print(f"page_pictures: wrote {path} ({path.stat().st_size // 1000} kB)")


@contextmanager
def _pool() -> Iterator[str]:
    """Serve a pool in which much goes on; yields the address of its page."""
    with tempfile.TemporaryDirectory(prefix="pool-pictures-") as name:
        state, config = Path(name) / "state", Path(name) / "pool.toml"
        state.mkdir(mode=0o700)
        config.write_text(CONFIG)
        (state / "events.jsonl").write_text("".join(map(_event, STORY)))
        (state / "events.jsonl").chmod(0o600)
        with (
            running(state, arguments=["--config", str(config)]) as service,
            PoolClient.connect(service.address) as pool,
        ):
            yield from _scene(pool, service.address)


def _scene(pool: PoolClient, address: str) -> Iterator[str]:
    for model in ("qwen3-30b-a3b", "qwen3-4b", "llama-3.2-3b", "gemma-3-12b"):
        pool.ensure(model)
    pool.pin("qwen3-4b")
    with PoolClient.connect(address) as other, pool.hold("llama-3.2-3b", holder="indexer"):
        for model in ("whisper-large", "phi-4"):
            threading.Thread(target=_try, args=(other, model), daemon=True).start()
        while not _is_starting(pool, "phi-4"):
            pass
        yield "http://localhost:9499/"


def _is_starting(pool: PoolClient, model: str) -> bool:
    return any(one.model == model and one.start_time for one in pool.list())


def _try(pool: PoolClient, model: str) -> None:
    try:
        pool.ensure(model)
    except PoolError as error:
        print(f"page_pictures: {error}")


def _event(told: tuple[float, str, int, str | None, str | None, str, str]) -> str:
    minutes, model, generation, before, after, cause, preemptor = told
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    event = {"ts": at.isoformat(), "kind": "transition", "model": model, "generation": generation}
    return (
        json.dumps(
            event | {"before": before, "after": after, "cause": cause, "preemptor": preemptor}
        )
        + "\n"
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(sys.argv[1:]))
