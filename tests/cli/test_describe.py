"""The command `describe`: what it shows of a model, how it reads, and its width."""

import json
import re
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import Terminal, running, started
from tests.client.scripted import Refusal, Script, ready

GENERATION = (
    "standby: queued 1.2s, spawned in 0.1s, loaded in 2.5s; READY at TIME; at most 2.0 GB; "
    "ended TIME, crashed: The runtime was ended by SIGKILL."
)


def ago(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds))
    return stamp


def whole() -> pb.DescribeResponse:
    """A model that has something in every section."""
    end = pb.Exit(
        generation=1,
        signal=9,
        cause=pb.EXIT_CAUSE_CRASHED,
        message="The runtime was ended by SIGKILL.",
        time=ago(300),
    )
    server = ready("m", ready_time=ago(190), last_use_time=ago(40), expire_time=ago(-120))
    server.last_exit.CopyFrom(end)
    candidate = pb.EvictionCandidate(
        model="m", generation=2, freed_bytes=3_000_000_000, retention_seconds=4.4
    )
    return pb.DescribeResponse(
        model="m",
        aliases=["chat"],
        listed=True,
        expected_bytes=3_000_000_000,
        expected_by=pb.EXPECTATION_DECLARED,
        on_disk=True,
        disk_bytes=2_300_000_000,
        usual_load=Duration(seconds=4),
        servers=[server],
        settings=[
            pb.Setting(key="keep_alive", value="10m", source="[defaults]", running="5s"),
            pb.Setting(key="arguments", value="--x " * 60, source='[models."m"]'),
        ],
        runs=[
            pb.Run(
                generation=1,
                origin=pb.RUN_ORIGIN_STANDBY,
                create_time=ago(600),
                admit_time=ago(598.8),
                start_time=ago(598.7),
                ready_time=ago(596),
                load=Duration(seconds=2, nanos=500_000_000),
                exit=end,
                peak_bytes=2_000_000_000,
            ),
        ],
        holders=[pb.Holder(label="a test", since=ago(60))],
        holds=12,
        waiting=[pb.WaitingCall(since=ago(5)), pb.WaitingCall(since=ago(4), own=True)],
        waiting_calls=1,
        next_to_go=[candidate],
        eviction_position=1,
        eviction_candidates=1,
        crash_times=[ago(300)],
        crash_limit=5,
        crash_window=Duration(seconds=300),
        decisions=[
            pb.Decision(
                time=ago(600),
                generation=1,
                before=pb.SERVER_STATE_QUEUED,
                after=pb.SERVER_STATE_QUEUED,
                why="waits for 'x' to go",
                choice=pb.Choice(needed_bytes=3_000_000_000, chosen=[candidate]),
            ),
            pb.Decision(
                time=ago(599),
                generation=1,
                before=pb.SERVER_STATE_STARTING,
                after=pb.SERVER_STATE_STARTING,
            ),
            pb.Decision(
                time=ago(596),
                generation=1,
                before=pb.SERVER_STATE_STARTING,
                after=pb.SERVER_STATE_READY,
            ),
        ],
    )


def line(text: str, label: str) -> str:
    """Return the value of the only line with a label, without clock times."""
    (found,) = re.findall(rf"^ *{re.escape(label)}  +(.*)$", text, re.MULTILINE)
    return re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d", "TIME", found)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("Aliases:", "chat"),
        ("Needs:", "3.0 GB (declared)"),
        ("On disk:", "2.3 GB"),
        ("Usual load:", "4.0s"),
        ("State:", "READY for 3m, since TIME"),
        ("Last use:", "40s ago, at TIME"),
        ("Last exit:", "generation 1 at TIME, crashed: The runtime was ended by SIGKILL."),
        ("Crashes:", "1 in the last 5m; 5 are a crash loop"),
        ("a test", "1m ago, at TIME"),
        ("Ensure", "5s ago, at TIME"),
        ("the service", "4s ago, at TIME"),
        ("1. m", "frees 3.0 GB, worth 4.4 s"),
        ("keep_alive", "10m ([defaults]); the server runs with 5s"),
        ("1", GENERATION),
    ],
)
def test_each_fact_is_on_a_line_of_its_own(
    run: Run, service: Script, label: str, value: str
) -> None:
    service.answer("Describe", whole())
    assert line(run("describe", "m").stdout, label) == value
    assert service.asked["Describe"] == [pb.DescribeRequest(model="m")]


def test_decisions_are_shown_the_newest_first_without_those_that_say_nothing(
    run: Run, service: Script
) -> None:
    service.answer("Describe", whole())
    _, _, shown = run("describe", "m").stdout.partition("Decisions, the newest first:\n")
    shown, _, _ = shown.partition("Settings:\n")
    assert [one.split(None, 2)[2] for one in shown.splitlines()] == [
        "STARTING -> READY",
        "QUEUED, waits for 'x' to go; needs 3.0 GB; 0 B reserved; stops m (worth 4.4 s)",
    ]


def test_more_holders_than_are_shown_are_counted(run: Run, service: Script) -> None:
    service.answer("Describe", whole())
    assert "and 2 more" in run("describe", "m").stdout


def test_a_model_without_a_server_says_so_and_has_no_empty_section(
    run: Run, service: Script
) -> None:
    service.answer("Describe", pb.DescribeResponse(model="m", problem="it is no model"))
    shown = run("describe", "m").stdout
    assert line(shown, "Server:") == "none"
    assert line(shown, "Problem:") == "it is no model"
    assert not re.findall(r":\n\S", shown)
    assert "Holders" not in shown


def test_no_text_of_a_server_controls_the_terminal(run: Run, service: Script) -> None:
    evil = "\x1b[2J\r\u202e"
    message = whole()
    message.holders[0].label = message.decisions[0].why = message.settings[0].value = evil
    message.servers[0].detail = message.kept_because = evil
    service.answer("Describe", message)
    shown = run("describe", "m").stdout
    assert not {"\x1b", "\r", "\u202e"} & set(shown)


def test_json_is_the_whole_description_on_one_line(run: Run, service: Script) -> None:
    service.answer("Describe", whole())
    (shown,) = run("describe", "m", "--json").stdout.splitlines()
    told = json.loads(shown)
    assert told["usual_load"] == "4.0s"
    assert told["runs"][0]["origin"] == "STANDBY"
    assert told["decisions"][0]["choice"]["chosen"][0]["model"] == "m"


def test_on_a_terminal_no_line_is_wider_than_it(service: Script, terminal: Terminal) -> None:
    service.answer("Describe", whole())
    with running(started(service, "describe", "m", stdout=terminal.writer)) as process:
        terminal.wait_for("waits for 'x'")
        assert process.wait(20) == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", terminal.seen)
    assert max(len(one.rstrip()) for one in plain.splitlines()) <= 80


def test_an_unknown_model_is_refused_with_exit_code_5(run: Run, service: Script) -> None:
    service.answer("Describe", Refusal(StatusCode.NOT_FOUND, "it is not listed", "MODEL_UNKNOWN"))
    assert run("describe", "m").exit_code == 5
