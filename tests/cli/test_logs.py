"""Claims about `pool-service logs`."""

import json
import signal

import grpc
import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.cli.program import running, started
from tests.client.scripted import Refusal, Script, Stay

EXIT = pb.Exit(generation=1, cause=pb.EXIT_CAUSE_CRASHED, message="exit code 1")


def lines(*texts: str, generation: int = 1, missed: int = 0) -> pb.TailLogsResponse:
    return pb.TailLogsResponse(
        generation=generation, lines=texts, missed_bytes=missed, cursor=f"{generation}.{len(texts)}"
    )


def ended(generation: int = 1) -> pb.TailLogsResponse:
    return pb.TailLogsResponse(generation=generation, ended=True, exit=EXIT, cursor="end")


@pytest.fixture(autouse=True)
def reachable(service: Script) -> None:
    service.answer("List", pb.ListResponse())


def asked(service: Script) -> pb.TailLogsRequest:
    (request,) = service.asked["TailLogs"]
    assert isinstance(request, pb.TailLogsRequest)
    return request


def test_lines_are_on_stdout_and_what_happened_to_the_processes_on_stderr(
    run: Run, service: Script
) -> None:
    service.answer("TailLogs", lines("a", "", "b", missed=2048), ended(), lines("c", generation=2))
    result = run("logs", "m")
    assert (result.exit_code, result.stdout) == (0, "a\n\nb\nc\n")
    notes = [line.lstrip("• ") for line in result.stderr.splitlines()]
    assert notes == [
        "2 kB before this are no longer kept",
        "generation 1 has ended: exit code 1",
        "generation 2",
    ]


def test_nothing_that_a_line_has_reaches_the_terminal_as_a_control(
    run: Run, service: Script
) -> None:
    service.answer("TailLogs", lines("a\x1b]0;title\x07\x9b2J\rb\u202e"))
    shown = run("logs", "m").stdout.removesuffix("\n")
    assert shown.isprintable()


@pytest.mark.parametrize(
    ("arguments", "request_fields"),
    [
        ([], {}),
        (["-f"], {"follow": True}),
        (["-n", "5"], {"lines": 5}),
        (["-n", "0", "--follow"], {"lines": 0, "follow": True}),
        (["--previous"], {"previous": True}),
        (["--generation", "7", "--lines", "2"], {"generation": 7, "lines": 2}),
        (["--all"], {"oldest": True}),
        (["--cursor", "1.2.3.0.0"], {"cursor": "1.2.3.0.0"}),
    ],
)
def test_each_option_is_asked_of_the_service(
    run: Run, service: Script, arguments: list[str], request_fields: dict[str, object]
) -> None:
    service.answer("TailLogs", lines("a"))
    # A stream that follows is ended by the reader only.
    if "follow" in request_fields:
        refusal = Refusal(grpc.StatusCode.NOT_FOUND, "gone", "LOG_NOT_FOUND")
        service._steps["TailLogs"].clear()
        service.answer("TailLogs", refusal)
    run("logs", "m", *arguments)
    assert asked(service) == pb.TailLogsRequest(model="m", **request_fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--previous", "--all"], "--previous cannot be used with --all"),
        (["--generation", "1", "--cursor", "c"], "--generation cannot be used with --cursor"),
        (["--all", "-n", "3"], "--lines cannot be used with --all"),
        (["--cursor", "c", "-n", "3"], "--lines cannot be used with --cursor"),
        (["-n", "-1"], "Invalid value"),
        (["--generation", "0"], "Invalid value"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    run: Run, service: Script, arguments: list[str], told: str
) -> None:
    result = run("logs", "m", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert not service.asked["TailLogs"]


def test_json_has_an_object_for_each_part_with_its_cursor(run: Run, service: Script) -> None:
    service.answer("TailLogs", lines("a", "b"), ended())
    first, second = map(json.loads, run("logs", "m", "--json").stdout.splitlines())
    assert first == {
        "event": "lines",
        "generation": 1,
        "lines": ["a", "b"],
        "missed_bytes": 0,
        "cursor": "1.2",
    }
    assert (second["event"], second["cursor"]) == ("ended", "end")
    assert second["exit"]["cause"] == "CRASHED"


def test_a_log_that_is_not_kept_is_refused_with_what_is(run: Run, service: Script) -> None:
    message = "this log of 'm' is not kept, but those of its generations 3, 4 are."
    service.answer("TailLogs", Refusal(grpc.StatusCode.NOT_FOUND, message, "LOG_NOT_FOUND"))
    result = run("logs", "m", "--generation", "1")
    assert (result.exit_code, result.stdout) == (5, "")
    assert message in result.stderr


def test_without_a_service_nothing_is_waited_for(run: Run) -> None:
    assert run("logs", "m", "-f", address="unix:/none").exit_code == 3


def test_ctrl_c_ends_what_follows(service: Script) -> None:
    stay = Stay()
    service.answer("TailLogs", lines("a"), stay)
    with running(started(service, "logs", "m", "-f")) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a\n"
        stay.reached.wait(20)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert service.closed("TailLogs")


def test_a_lost_stream_goes_on_at_its_cursor(run: Run, service: Script) -> None:
    service.answer("TailLogs", lines("a"), Refusal(grpc.StatusCode.UNAVAILABLE, "gone"))
    service.answer("TailLogs", lines("b"))
    assert run("logs", "m", "-n", "1").stdout == "a\nb\n"
    first, second = service.asked["TailLogs"]
    assert first == pb.TailLogsRequest(model="m", lines=1)
    assert second == pb.TailLogsRequest(model="m", cursor="1.1")


def test_an_output_that_lacks_a_character_gets_it_escaped(
    monkeypatch: pytest.MonkeyPatch, service: Script
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1:strict")
    service.answer("TailLogs", lines("cafe \ufffd"))
    with running(started(service, "logs", "m")) as process:
        shown, _ = process.communicate(timeout=60)
    assert (process.returncode, shown) == (0, "cafe \\ufffd\n")
