"""Tables at the width of a terminal."""

import fcntl
import json
import re
import struct
import termios
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.cli.columns import GAP, fit_columns, shorten
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.cli.test_outputs import ago, listed
from tests.client.scripted import Script, ready

HUB = "mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit"
LONGER = "organisation-of-some-length/" + "model-" * 12 + "30B-4bit"


def test_all_columns_are_shown_where_they_fit() -> None:
    assert fit_columns([["MODEL", "B"], ["abc", "de"]], 80, [1]) == ((0, 1), 5)


def test_the_least_important_column_goes_first() -> None:
    rows = [["MODEL", "IMPORTANT", "LESS"]]
    assert fit_columns(rows, 22, [2, 1]) == ((0, 1, 2), 5)
    assert fit_columns(rows, 21, [2, 1]) == ((0, 1), 5)
    assert fit_columns(rows, 15, [2, 1]) == ((0,), 5)


def test_a_long_name_takes_no_more_than_two_fifths_from_other_columns() -> None:
    rows = [["MODEL", "PID"], ["n" * 100, "1"]]
    assert fit_columns(rows, 40, [1]) == ((0, 1), 35)


@given(st.text("ab/-", max_size=60), st.integers(5, 60))
def test_a_cut_name_has_its_beginning_and_its_end(name: str, width: int) -> None:
    shown = shorten(name, width)
    assert len(shown) == min(len(name), width)
    beginning, ellipsis, end = shown.partition("…")
    assert name.startswith(beginning)
    assert name.endswith(end)
    assert bool(ellipsis) == (len(name) > width)


@given(
    st.lists(st.lists(st.text("x", max_size=50), min_size=4, max_size=4), min_size=1),
    st.integers(10, 200),
)
def test_what_is_shown_fits(cells: list[list[str]], width: int) -> None:
    rows = [["MODEL", "B", "C", "D"], *cells]
    columns, name_width = fit_columns(rows, width, [3, 2, 1])
    taken = sum(GAP + max(len(row[column]) for row in rows) for column in columns[1:])
    assert name_width + taken <= width
    assert columns[0] == 0


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (60, ["MODEL", "STATE", "MEMORY", "EXPIRES"]),
        (80, ["MODEL", "STATE", "MEMORY", "EXPIRES"]),
        (120, ["MODEL", "STATE", "ENDPOINT", "MEMORY", "HOLDS", "AGE", "EXPIRES"]),
    ],
)
def test_list_fits_a_terminal_and_shows_each_model(
    service: Script, terminal: Terminal, width: int, headings: list[str]
) -> None:
    fcntl.ioctl(terminal.writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    more: dict[str, Any] = {
        "pid": 48213,
        "footprint_bytes": 17_400_000_000,
        "expected_bytes": 18_100_000_000,
    }
    more |= {"create_time": ago(hours=3), "expire_time": ago(minutes=-4)}
    service.answer("List", listed(*(ready(name, **more) for name in (HUB, LONGER, "short"))))
    with running(started(service, "list", stdout=terminal.writer)) as process:
        assert process.wait(20) == 0
    terminal.wait_for("3 servers")
    lines = [line.strip("\r") for line in plain(terminal.seen).split("\n")]
    assert lines[0].split() == headings
    assert all(len(line) <= width for line in lines)
    names = [line.split()[0] for line in lines[1:4]]
    for shown, name in zip(names, (HUB, LONGER, "short"), strict=True):
        beginning, _, end = shown.partition("…")
        assert name.startswith(beginning)
        assert name.endswith(end)


def test_list_shows_the_host_of_each_model_however_narrow_the_terminal_is(
    service: Script, terminal: Terminal
) -> None:
    fcntl.ioctl(terminal.writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    service.answer("List", listed(*(ready(name, host="studio", pid=9) for name in (HUB, LONGER))))
    with running(started(service, "list", stdout=terminal.writer)) as process:
        assert process.wait(20) == 0
    terminal.wait_for("2 servers")
    lines = [line.strip("\r") for line in plain(terminal.seen).split("\n")]
    assert lines[0].split()[:3] == ["MODEL", "STATE", "HOST"]
    assert [line.count("studio") for line in lines[1:3]] == [1, 1]
    assert all(len(line) <= 50 for line in lines)


def test_list_of_a_fleet_shows_the_hosts_and_what_is_not_seen(run: Run, service: Script) -> None:
    answer = listed(ready("a", host="mini"), ready("b", host="studio"))
    answer.notices.append("laptop: its servers are not listed: lost, it is away.")
    service.answer("List", answer)
    result = run("list")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0][:4] == ["MODEL", "STATE", "HOST", "GEN"]
    assert [line[2] for line in lines[1:3]] == ["mini", "studio"]
    assert "laptop: its servers are not listed" in result.stderr
    assert json.loads(run("list", "--json").stdout.splitlines()[0])["host"] == "mini"


def plain(seen: str) -> str:
    """Return what was written without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", seen)
