import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from pool_service.logging_setup import LogFormat, configure_logging

FORGED = "x\n2026-01-01T00:00:00Z [info     ] all is well"
HIDDEN = ["\n", "\r", "\x1b[2J", "\x00", "\x0b", "\x85", "\u2028", "\u202e", "\u200b"]
FORMATS: tuple[LogFormat, ...] = ("text", "json")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Misshown:
    def __repr__(self) -> str:
        return FORGED


def fail() -> None:
    raise ValueError(FORGED)


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging belongs to the process: give it back."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    root.setLevel(level)
    structlog.configure(**before)


def told(log_format: LogFormat, event: str, **values: object) -> str:
    stream = io.StringIO()
    configure_logging(log_format, "info", stream)
    structlog.get_logger("pool_service.x").info(event, **values)
    return stream.getvalue()


@pytest.mark.parametrize("log_format", FORMATS)
def test_no_line_shows_the_key_of_a_server(log_format: LogFormat) -> None:
    key = f"psk_{'Ab-9_' * 8}xyz"
    line = told(log_format, f"event {key}", plan={"key": [key]}, exc_info=ValueError(key))
    assert key not in line
    assert line.count("psk_***") >= 3


def test_a_line_of_text_has_time_level_event_logger_and_values() -> None:
    line = told("text", "server ready", model="vllm-mlx/a", generation=2)
    assert re.fullmatch(
        r"\S+Z \[info +] server ready +\[pool_service\.x] model=vllm-mlx/a generation=2\n", line
    )


def test_a_line_of_json_is_one_object() -> None:
    line = told("json", "server ready", model="vllm-mlx/a", generation=2)
    told_values = json.loads(line)
    moment = datetime.fromisoformat(told_values.pop("timestamp"))
    assert moment.utcoffset() == timedelta(0)
    assert moment <= datetime.now(UTC)
    assert told_values == {
        "event": "server ready",
        "level": "info",
        "logger": "pool_service.x",
        "model": "vllm-mlx/a",
        "generation": 2,
    }


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("hidden", HIDDEN)
def test_what_does_not_show_is_written_out(log_format: LogFormat, hidden: str) -> None:
    line = told(log_format, f"a{hidden}b", model=f"a{hidden}b", lines=[f"a{hidden}b"])
    assert line[-1] == "\n"
    assert line[:-1].isprintable()


@pytest.mark.parametrize("log_format", FORMATS)
@pytest.mark.parametrize("value", [FORGED, [FORGED], {FORGED: 1}, Misshown(), ValueError(FORGED)])
def test_no_value_forges_a_line(log_format: LogFormat, value: object) -> None:
    assert told(log_format, "event", value=value).splitlines()[1:] == []


def test_a_value_cannot_pose_as_another_key() -> None:
    assert "model='a pid=1'" in told("text", "event", model="a pid=1")


@pytest.mark.parametrize("log_format", FORMATS)
def test_no_line_of_a_traceback_begins_like_a_log_line(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(log_format, "info", stream)
    try:
        fail()
    except ValueError:
        structlog.get_logger().exception("bug")
    first, *others = stream.getvalue().splitlines()
    assert "bug" in first
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert "all is well" in stream.getvalue()


def test_an_infinite_number_is_json() -> None:
    line = told("json", "event", keep_alive=float("inf"))
    assert json.loads(line, parse_constant=pytest.fail)["keep_alive"] == "inf"


@pytest.mark.parametrize("log_format", FORMATS)
def test_libraries_log_the_same_way(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(log_format, "info", stream)
    logging.getLogger("grpc._server").error("it %s", "broke\nx")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", stacklevel=1)
    broke, old = stream.getvalue().splitlines()
    assert "grpc._server" in broke
    assert r"it broke\nx" in broke
    assert "old thing" in old
    assert "warning" in old


@pytest.mark.parametrize("log_format", FORMATS)
def test_what_is_below_the_level_is_left_out(log_format: LogFormat) -> None:
    stream = io.StringIO()
    configure_logging(log_format, "warning", stream)
    structlog.get_logger().info("quiet")
    logging.getLogger("grpc").info("quiet")
    structlog.get_logger().warning("loud")
    assert [line for line in stream.getvalue().splitlines() if "loud" not in line] == []


def test_configured_again_a_line_is_written_once_and_only_to_the_last() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("text", "info", first)
    configure_logging("text", "info", second)
    structlog.get_logger().info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal, plain = Terminal(), Terminal()
    configure_logging("text", "info", terminal)
    structlog.get_logger().info("event")
    monkeypatch.setenv("NO_COLOR", "1")
    configure_logging("text", "info", plain)
    structlog.get_logger().info("event")
    assert "\x1b[" in terminal.getvalue()
    assert "\x1b[" not in plain.getvalue()
    assert "\x1b[" not in told("text", "event")
