"""Claims about where the output has colours and symbols."""

import io
import re
from collections.abc import Mapping

import pytest

from pool_service.cli.appearance import has_symbols, is_coloured, wrapped
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Script


class Stream(io.TextIOWrapper):
    def __init__(self, *, is_terminal: bool, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


TERMINAL, PIPE = Stream(is_terminal=True), Stream(is_terminal=False)


@pytest.mark.parametrize(
    ("environment", "on_a_terminal", "in_a_pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"TERM": "dumb"}, False, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"FORCE_COLOR": "0", "CLICOLOR_FORCE": ""}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, True, True),
    ],
)
def test_where_there_are_colours(
    environment: Mapping[str, str],
    *,
    on_a_terminal: bool,
    in_a_pipe: bool,
) -> None:
    assert is_coloured(TERMINAL, environment) is on_a_terminal
    assert is_coloured(PIPE, environment) is in_a_pipe


@pytest.mark.parametrize(
    ("environment", "has_them"),
    [
        ({"LANG": "de_DE.UTF-8"}, True),
        ({"LC_CTYPE": "C.UTF-8"}, True),
        ({}, True),
        ({"LC_ALL": "C", "LANG": "de_DE.UTF-8"}, False),
        ({"LC_ALL": "", "LANG": "POSIX"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_where_there_are_symbols(environment: Mapping[str, str], *, has_them: bool) -> None:
    assert has_symbols(TERMINAL, environment) is has_them
    assert not has_symbols(PIPE, environment)
    assert not has_symbols(Stream(is_terminal=True, encoding="latin-1"), environment)


def listed() -> pb.ListResponse:
    ready = pb.Server(model="m", state=pb.SERVER_STATE_READY, generation=1)
    failed = pb.Server(model="n", state=pb.SERVER_STATE_FAILED, generation=2)
    return pb.ListResponse(servers=[ready, failed], totals=pb.PoolTotals(servers=2))


def show(service: Script, terminal: Terminal) -> list[str]:
    service.answer("List", listed())
    with running(started(service, "list", stdout=terminal.writer)) as process:
        assert process.wait() == 0
    terminal.wait_for("2 servers")
    return terminal.seen.split("\r\n")


def test_a_terminal_shows_colours_and_symbols_in_columns(
    service: Script, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    heading, ready, failed, *_ = show(service, terminal)
    assert "\x1b[32m● READY" in ready
    assert "\x1b[31m✗ FAILED" in failed
    plain = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in (heading, ready, failed)]
    assert plain[0].index("STATE") == plain[1].index("●") == plain[2].index("✗")


def test_a_terminal_of_ascii_without_colours_shows_neither(
    service: Script, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("NO_COLOR", "1")
    lines = show(service, terminal)
    assert lines[1].split()[:3] == ["m", "READY", "1"]
    assert "\x1b" not in terminal.seen


@pytest.mark.parametrize("command", ["list", "reload"])
def test_a_pipe_gets_neither_unless_it_is_forced(
    run: Run, service: Script, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    answer = listed() if command == "list" else pb.ReloadResponse(problems=["p"])
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    service.answer(command.capitalize(), answer)
    assert "\x1b" not in run(command).output
    monkeypatch.setenv("FORCE_COLOR", "1")
    service.answer(command.capitalize(), answer)
    assert "\x1b" in run(command).output
    service.answer(command.capitalize(), answer)
    assert "\x1b" not in run(command, "--json").stdout


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("short", "short"),
        ("OK   one two-three four", "OK   one\n  two-three\n  four"),
        ("at /a/path/that/is/long for", "at\n  /a/path/that/is/long\n  for"),
        ("    indented words here", "    indented\n  words here"),
    ],
)
def test_a_long_line_goes_on_below_between_words(line: str, shown: str) -> None:
    assert wrapped(line, 12, 2) == shown
