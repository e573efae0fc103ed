"""The manual pages say what the commands do, and programs for them read them without a word."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tools.manual_pages import pages

PAGES = Path(__file__).parents[1] / "packaging/man"


@pytest.mark.process
def test_the_pages_say_what_the_help_says() -> None:
    written = {path.name: path.read_text() for path in PAGES.iterdir()}
    assert written == pages(), "run `make docs`"


def test_a_page_is_whole() -> None:
    page = pages()["pool-service-ensure.1"]
    assert "pool-service-ensure \\- Make MODEL ready and print the base URL of its server" in page
    assert "$(pool\\-service ensure vllm\\-mlx/qwen3\\-4b \\-\\-env)" in page
    assert "\\fB\\-\\-keep\\-alive\\fP DURATION" in page
    assert "the service cannot be reached" in page
    assert ".BR pool-service-config-check (1)" in pages()["pool-service-config.1"]


@pytest.mark.process
@pytest.mark.skipif(
    not (shutil.which("mandoc") or os.environ.get("CI")), reason="mandoc is not there"
)
def test_mandoc_finds_nothing_to_say_of_them() -> None:
    names = map(str, sorted(PAGES.iterdir()))
    command = ["mandoc", "-T", "lint", "-W", "warning", *names]
    linted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (linted.returncode, linted.stdout + linted.stderr) == (0, "")


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("man"), reason="man is not there")
def test_man_shows_them_without_a_warning() -> None:
    for page in PAGES.iterdir():
        shown = subprocess.run(
            ["man", "--warnings", "-l", page], capture_output=True, text=True, check=False
        )
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "SYNOPSIS" in shown.stdout
