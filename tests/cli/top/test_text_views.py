"""Logs, descriptions and the help as text on the screen."""

import pytest

from pool_service.cli.top.canvas import Canvas
from pool_service.cli.top.controls import Controls, Mode
from pool_service.cli.top.frame import frame
from pool_service.cli.top.text_views import MAX_LOG_LINES, LogText
from pool_service_client import LogEnd, LogLines, convert
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import HELD, NOW, describe, full, picture, screen


def text(controls: Controls, log: LogText | None = None, height: int = 10) -> list[str]:
    canvas = Canvas(40, height, NOW)
    lines = frame(full(), controls, log or LogText(), "host:1", canvas)
    return [line.plain for line in lines]


@pytest.mark.parametrize("mode", [Mode.LOG, Mode.DESCRIPTION, Mode.HELP])
def test_an_outage_is_told_above_a_text_too(mode: Mode) -> None:
    shown = full()
    shown.lose("cannot reach it", NOW)
    canvas = Canvas(60, 10, NOW)
    controls = Controls(mode=mode, subject=HELD)
    first, title, *rest = frame(shown, controls, LogText(), "host:1", canvas)
    assert first.plain == "NO ANSWER for 0s, trying again: cannot reach it"
    assert title.plain.split()[0] in {"log", "description", "help,"}
    assert len(rest) == 8
    assert all(line.spans[-1].style == "dim" for line in rest if line.plain)


@pytest.mark.parametrize("mode", [Mode.LOG, Mode.DESCRIPTION, Mode.HELP])
def test_a_text_says_that_a_question_waits_behind_it(mode: Mode) -> None:
    controls = Controls(mode=mode, subject="a")
    controls.ask_before_evicting("m", "m is held once", None)
    assert screen(picture(), controls)[-1] == "q back, to a question about m"


def test_a_log_shows_its_end_and_what_happened_to_its_processes() -> None:
    log = LogText()
    log.add(LogLines(1, tuple(f"line {place}" for place in range(50)), 2048, ""))
    log.add(LogEnd(1, convert.exit_of(pb.Exit(message="exit code 3")), ""))
    log.add(LogLines(2, ("x" * 50,), 0, ""))
    assert text(Controls(mode=Mode.LOG, subject="m"), log) == [
        "log of m",
        *(f"line {place}" for place in range(46, 50)),
        "generation 1 has ended: exit code 3",
        "generation 2",
        "x" * 40,
        "x" * 10,
        "q back  ↑↓ scroll  Home, End",
    ]


def test_a_log_scrolls_to_its_oldest_line_and_no_further() -> None:
    log = LogText()
    log.add(LogLines(1, tuple(f"line {place}" for place in range(5000)), 0, ""))
    controls = Controls(mode=Mode.LOG, subject="m", scroll=10**6)
    lines = text(controls, log)
    assert lines[1] == f"line {5000 - MAX_LOG_LINES}"
    assert lines[0] == f"log of m, {MAX_LOG_LINES - 8} rows above its end"
    assert controls.scroll == MAX_LOG_LINES - 8


def test_what_is_read_of_a_log_stays_where_it_is_when_long_lines_come() -> None:
    log, controls = LogText(), Controls(mode=Mode.LOG, subject="m", scroll=5)
    log.add(LogLines(1, tuple(f"line {place}" for place in range(50)), 0, ""))
    before = text(controls, log)[1:-1]
    controls.scroll += log.add(LogLines(1, ("x" * 100, "y"), 0, ""))
    assert text(controls, log)[1:-1] == before


def test_a_log_that_is_not_kept_says_so() -> None:
    log = LogText(error="no log of 'm' is kept")
    assert "no log of 'm' is kept" in text(Controls(mode=Mode.LOG, subject="m"), log)


def test_a_description_is_the_text_of_describe_within_the_width() -> None:
    shown = full()
    describe(shown, "m", aliases=["chat"], problem="too long for a line " * 4)
    controls = Controls(mode=Mode.DESCRIPTION, subject="m")
    lines = screen(shown, controls, 60, 20)
    assert lines[0] == "description of m"
    assert "Aliases:          chat" in lines
    (at_problem,) = [place for place, line in enumerate(lines) if line.startswith("Problem:")]
    assert lines[at_problem + 1].startswith(" " * 18 + "too long for")


def test_a_description_that_is_refused_says_why() -> None:
    shown = picture()
    controls = Controls(mode=Mode.DESCRIPTION, subject="m")
    assert "waiting for the service" in screen(shown, controls)
    shown.learn({"m": "'m' is not in the catalogue"}, 0, 0, anew=True)
    assert "'m' is not in the catalogue" in screen(shown, controls)


def test_what_is_longer_than_the_screen_says_how_much_follows_and_scrolls() -> None:
    controls = Controls(mode=Mode.HELP)
    first = screen(picture(), controls, 80, 12)
    assert first[0].startswith("help, ")
    assert first[0].endswith(" more rows below")
    controls.scroll = 10**6
    last = screen(picture(), controls, 80, 12)
    assert last[0] == "help"
    assert 0 < controls.scroll < 100


def test_the_help_is_aligned_at_80_columns() -> None:
    lines = screen(picture(), Controls(mode=Mode.HELP), 80, 60)
    of_e = next(place for place, line in enumerate(lines) if line.startswith("e  "))
    assert lines[of_e + 1].startswith(" " * 19 + "pinned or starting")
    of_bar = next(place for place, line in enumerate(lines) if line.startswith("The bar"))
    assert not lines[of_bar + 1].startswith(" ")
