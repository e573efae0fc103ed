"""The command `events`: which events it shows, how they read, and that it follows new ones."""

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pool_service.adapters.event_log.event_file import NEWER
from pool_service.cli.commands import pool_service
from tests.cli.program import MAIN

NOW = datetime.now(UTC)


def put(directory: Path, *events: dict[str, Any], ago_s: float = 0.0) -> None:
    with (directory / NEWER).open("a") as file:
        for event in events:
            at = (NOW - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")
            file.write(json.dumps({"ts": at.replace("+00:00", "Z"), **event}) + "\n")


def change(
    before: str | None, after: str | None, model: str = "m", **more: object
) -> dict[str, Any]:
    return {
        "kind": "transition",
        "model": model,
        "generation": 2,
        "role": "CURRENT",
        "before": before,
        "after": after,
        **more,
    }


def run(directory: Path, *arguments: str) -> Result:
    return CliRunner().invoke(pool_service, ["events", "--state-dir", str(directory), *arguments])


def lines(directory: Path, *arguments: str) -> list[str]:
    """Return the lines that are shown without their times and the headings of days."""
    result = run(directory, *arguments)
    assert result.exit_code == 0, result.output
    return [line[10:] for line in result.stdout.splitlines() if line[2:3] == ":"]


EXIT = {"cause": "CRASHED", "code": 1, "message": "The runtime exited with code 1"}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (change(None, "QUEUED"), "m (2): new -> QUEUED"),
        (change("QUEUED", "PREPARING"), "m (2): QUEUED -> STARTING"),
        (
            change("READY", "STOPPING", preemptor="llama", needed_bytes=4_200_000_000),
            "m (2): READY -> STOPPING, for llama, which needs 4.2 GB",
        ),
        (
            change("READY", "CLEANING_UP", exit=EXIT),
            f"m (2): READY -> STOPPING, its process has ended: crashed: {EXIT['message']}",
        ),
        (
            change("STOPPING", "CLEANING_UP", exit=EXIT),
            "m (2): its process has ended: crashed: The runtime exited with code 1",
        ),
        (change("STOPPING", None, role="SUPERSEDED"), "m (2, superseded): STOPPING -> gone"),
        (
            change("READY", "READY", role="CURRENT", before_role="SUCCESSOR"),
            "m (2): successor -> current",
        ),
        (
            change("READY", "READY", role="SUPERSEDED", before_role="CURRENT", why="it grew"),
            "m (2): current -> superseded, it grew",
        ),
        (change("STOPPING", None, model="", role="ORPHAN"), "(orphan) (2): STOPPING -> gone"),
        (
            {
                "kind": "call",
                "method": "Evict",
                "model": "m",
                "peer": "unix:",
                "code": "FAILED_PRECONDITION",
                "reason": "SERVER_IN_USE",
                "why": "it is used",
                "repeated": 9,
            },
            # The one that is shown is the ninth.
            "evict m by a program on this machine: SERVER_IN_USE: it is used (and 8 more like it)",
        ),
        (
            {"kind": "call", "method": "Hold", "model": "m", "why": "it begins", "repeated": 1},
            "hold m: it begins",
        ),
        (
            {"kind": "call", "method": "Ensure", "model": "m", "alias": "fast", "peer": "unix:"},
            "ensure m (as fast) by a program on this machine: done",
        ),
        (
            {"kind": "call", "method": "Evict", "target": "all", "peer": "unix:"},
            "evict all by a program on this machine: done",
        ),
        (
            {"kind": "call", "method": "Reload", "peer": "signal SIGHUP", "code": "OK"},
            "reload by signal SIGHUP: done",
        ),
        (
            {"kind": "call", "method": "Forget", "peer": "ipv4:1.2.3.4:5", "principal": "ada"},
            "forget by ada: done",
        ),
        ({"kind": "service", "what": "started"}, "the service has started"),
        ({"kind": "lost", "lines": 7}, "7 events were lost"),
    ],
)
def test_an_event_reads_in_plain_words(tmp_path: Path, event: dict[str, Any], said: str) -> None:
    put(tmp_path, event)
    assert lines(tmp_path) == [said]


def test_a_change_that_is_none_on_the_wire_is_only_in_the_json(tmp_path: Path) -> None:
    put(tmp_path, change("PREPARING", "SPAWNING"))
    assert lines(tmp_path) == []
    assert json.loads(run(tmp_path, "--json").stdout)["after"] == "SPAWNING"


def test_a_kind_of_a_newer_service_is_shown_as_it_is(tmp_path: Path) -> None:
    put(tmp_path, {"kind": "new", "x": 1})
    (line,) = lines(tmp_path)
    assert line.startswith("new: {")


@pytest.mark.parametrize("field", ["model", "why"])
def test_no_event_controls_the_terminal(tmp_path: Path, field: str) -> None:
    put(tmp_path, change("READY", "STOPPING") | {field: "\x1b[2J\r\n\u202eevil"})
    result = run(tmp_path)
    assert result.exit_code == 0
    assert not {"\x1b", "\r", "\u202e"} & set(result.stdout)
    assert len(result.stdout.splitlines()) == 2


def test_events_since_a_time_and_until_a_time_are_shown(tmp_path: Path) -> None:
    for hours in range(6):
        put(tmp_path, {"kind": "service", "what": f"x{hours}"}, ago_s=(6 - hours) * 3600)
    assert len(lines(tmp_path, "--since", "2h30m")) == 2
    date = (NOW - timedelta(hours=2.5)).astimezone().strftime("%Y-%m-%dT%H:%M")
    assert len(lines(tmp_path, "--since", date)) == 2
    assert len(lines(tmp_path, "--until", date)) == 4
    assert len(lines(tmp_path, "--since", date, "--until", "90m")) == 1


def test_without_an_option_the_last_hundred_are_shown_and_n_shows_fewer(tmp_path: Path) -> None:
    put(tmp_path, *({"kind": "service", "what": f"x{n}"} for n in range(150)))
    assert len(lines(tmp_path)) == 100
    assert lines(tmp_path, "-n", "2") == ["the service has x148", "the service has x149"]
    assert len(lines(tmp_path, "--since", "1h")) == 150


def test_n_counts_the_lines_that_are_shown(tmp_path: Path) -> None:
    put(tmp_path, change(None, "QUEUED"), change("PREPARING", "SPAWNING"))
    assert lines(tmp_path, "-n", "1") == ["m (2): new -> QUEUED"]


def test_of_one_model_also_what_had_to_go_for_it_is_shown(tmp_path: Path) -> None:
    put(
        tmp_path,
        change("READY", "STOPPING", model="other", preemptor="m"),
        change("READY", "STOPPING", model="third"),
        change(None, "QUEUED"),
    )
    assert lines(tmp_path, "--model", "m") == [
        "other (2): READY -> STOPPING, for m",
        "m (2): new -> QUEUED",
    ]


def call(method: str, **more: object) -> dict[str, Any]:
    return {"kind": "call", "method": method, "peer": "unix:", **more}


def test_of_one_model_also_calls_by_an_alias_and_those_that_affected_it_among_others_are_shown(
    tmp_path: Path,
) -> None:
    put(
        tmp_path,
        call("Ensure", model="m", alias="fast", why="1"),
        call("Evict", target="all", models=["x", "m"], why="2"),
        call("Reload", models=["m"], why="3"),
        call("Evict", target="all", models=["x"], why="4"),
        call("Ensure", model="x", alias="slow", why="5"),
        call("Reload", models=None, why="6"),
    )
    assert [line[-1] for line in lines(tmp_path, "--model", "m")] == ["1", "2", "3"]


@pytest.mark.parametrize("how", ["--config", "--state-dir"])
def test_an_alias_shows_the_events_of_its_model(tmp_path: Path, how: str) -> None:
    config = tmp_path / "pool.toml"
    config.write_text(f'[service]\nstate_dir = "{tmp_path}"\n[models."m"]\naliases = ["fast"]\n')
    put(tmp_path, change(None, "QUEUED"), change(None, "QUEUED", model="other"))
    arguments = ["--config", str(config)] + ([how, str(tmp_path)] if how == "--state-dir" else [])
    result = CliRunner().invoke(pool_service, ["events", *arguments, "--model", "fast"])
    assert result.exit_code == 0, result.output
    assert "m (2): new -> QUEUED" in result.stdout
    assert "other" not in result.stdout


@pytest.mark.parametrize("text", ["tomorrow", "25:00", "2026-13-01", "-5m", ""])
def test_a_time_that_is_none_is_a_fault_of_the_command_line(tmp_path: Path, text: str) -> None:
    result = run(tmp_path, "--since", text)
    assert result.exit_code == 2
    assert "is not a time" in result.stderr


def test_the_help_says_that_an_alias_needs_the_configuration(tmp_path: Path) -> None:
    put(tmp_path, change(None, "QUEUED"))
    assert lines(tmp_path, "--model", "fast") == [], "nothing says what the alias means"
    text = " ".join(CliRunner().invoke(pool_service, ["events", "--help"]).stdout.split())
    assert "an alias of it also needs --config" in text


def test_a_state_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = run(tmp_path / "none")
    assert result.exit_code == 1
    assert str(tmp_path / "none") in result.stderr.replace("\n", "")


def test_no_events_are_no_error(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "there are no such events\n"


def test_the_directory_is_found_by_the_configuration(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    put(state, {"kind": "service", "what": "started"})
    config = tmp_path / "pool.toml"
    config.write_text(f'[service]\nstate_dir = "{state}"\n')
    result = CliRunner().invoke(pool_service, ["events", "--config", str(config)])
    assert "the service has started" in result.stdout
    result = CliRunner().invoke(
        pool_service, ["events"], env={"POOL_SERVICE_STATE_DIR": str(state)}
    )
    assert "the service has started" in result.stdout


def test_new_events_are_followed_until_ctrl_c(tmp_path: Path) -> None:
    put(tmp_path, {"kind": "service", "what": "started"})
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, "events", "-f", "--json", "--state-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["what"] == "started"
        put(tmp_path, {"kind": "service", "what": "stopped"})
        assert json.loads(process.stdout.readline())["what"] == "stopped"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
