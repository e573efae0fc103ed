import json
import os
import re
import shlex
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.conftest import Run
from tests.client.scripted import Refusal, Script, changed, ready, removed, synced

LONG = "organisation-of-some-length/" + "model-" * 20


def ago(**span: float) -> Timestamp:
    at = Timestamp()
    at.FromDatetime(datetime.now(UTC) - timedelta(**span))
    return at


def listed(*servers: pb.Server) -> pb.ListResponse:
    failed = sum(server.state == pb.SERVER_STATE_FAILED for server in servers)
    totals = pb.PoolTotals(servers=len(servers), ready=len(servers) - failed, failed=failed)
    return pb.ListResponse(servers=servers, revision=7, totals=totals)


def test_ensure_prints_the_endpoint_and_nothing_else(run: Run, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    result = run("ensure", "m", "--runtime-model", "r", "--keep-alive", "-1")
    assert (result.exit_code, result.output) == (0, "http://127.0.0.1:49321\n")
    keep_alive = Duration(seconds=-1)
    assert service.ensured == [
        pb.EnsureRequest(model="m", runtime_model="r", keep_alive=keep_alive)
    ]


@pytest.mark.parametrize(("flag", "said"), [("--download", True), ("--no-download", False)])
def test_ensure_says_whether_it_may_download(
    run: Run, service: Script, flag: str, said: bool
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    run("ensure", "m", flag)
    run("ensure", "m")
    assert service.ensured == [
        pb.EnsureRequest(model="m", download=said),
        pb.EnsureRequest(model="m"),
    ]


def test_ensure_json_is_one_object_with_the_names_of_the_wire(run: Run, service: Script) -> None:
    server = ready(create_time=Timestamp(seconds=1_700_000_000, nanos=500_000_000))
    service.answer("Ensure", pb.EnsureResponse(server=server, started=True))
    printed = json.loads(run("ensure", "m", "--json").stdout)
    assert printed["started"] is True
    assert set(printed["server"]) == {field.name for field in pb.Server.DESCRIPTOR.fields}
    assert printed["server"]["state"] == "READY"
    assert printed["server"]["generation"] == 1
    assert printed["server"]["create_time"] == "2023-11-14T22:13:20.500000Z"
    assert printed["server"]["expire_time"] is None


def test_ensure_env_sets_what_a_request_needs_in_the_shell(run: Run, service: Script) -> None:
    server = ready(served_model_name="it's $(mine)")
    service.answer("Ensure", pb.EnsureResponse(server=server, api_key="psk_x"))
    code = "import os; print(*(os.environ[f'POOL_{n}'] for n in ('ENDPOINT', 'MODEL', 'API_KEY')))"
    script = f"{run('ensure', 'm', '--env').stdout}\n{shlex.join((sys.executable, '-c', code))}"
    # What was set before must not stay.
    environment = os.environ | {"POOL_API_KEY": "that of another server"}
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, env=environment, check=False
    )
    assert done.stdout == b"http://127.0.0.1:49321 it's $(mine) psk_x\n"
    assert run("ensure", "m", "--env", "--json").exit_code == 2


def test_ensure_env_of_a_server_without_a_key_sets_an_empty_one(run: Run, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    assert "export POOL_API_KEY=''\n" in run("ensure", "m", "--env").stdout


def test_the_key_is_in_the_json_of_ensure_and_of_no_list(run: Run, service: Script) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(), api_key="psk_x"))
    service.answer("List", listed(ready()))
    assert json.loads(run("ensure", "m", "--json").stdout)["server"]["api_key"] == "psk_x"
    assert "api_key" not in json.loads(run("list", "--json").stdout)


def test_list_is_a_table_with_a_line_for_each_server(run: Run, service: Script) -> None:
    expiry = Timestamp()
    expiry.FromDatetime(datetime.now(UTC) + timedelta(minutes=4, seconds=30))
    failed = pb.Server(model="b", state=pb.SERVER_STATE_FAILED, generation=3, detail="it died")
    first = ready(
        "vllm-mlx/qwen3-4b",
        create_time=ago(hours=2, minutes=5),
        expire_time=expiry,
        footprint_bytes=2_100_000_000,
        expected_bytes=3_200_000_000,
    )
    service.answer("List", listed(first, failed))
    result = run("list")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == [
        *["MODEL", "STATE", "GEN", "PID", "ENDPOINT", "MEMORY", "HOLDS", "AGE", "EXPIRES"]
    ]
    endpoint = "http://127.0.0.1:49321"
    assert lines[1] == [
        "vllm-mlx/qwen3-4b",
        "READY",
        "1",
        "4711",
        endpoint,
        *["2.1", "GB", "/", "3.2", "GB", "-"],
        *["2h", "5m", "in", "4m"],
    ]
    assert lines[2] == ["b", "FAILED", "3", "-", "-", "-", "-", "-", "-"]
    assert result.stdout.splitlines()[3:] == ["  b: it died", "2 servers: 1 ready, 1 failed"]


def beside() -> list[pb.Server]:
    """Return one server of each role but CURRENT."""
    stopping = {"state": pb.SERVER_STATE_STOPPING, "endpoint": ""}
    return [
        ready("m", role=pb.SERVER_ROLE_SUPERSEDED, generation=1, pid=7, **stopping),
        ready("n", role=pb.SERVER_ROLE_SUCCESSOR, generation=3, pid=9, endpoint=""),
        ready("", role=pb.SERVER_ROLE_ORPHAN, generation=11, pid=11, detail="unknown", **stopping),
    ]


def test_list_says_of_a_server_that_no_caller_gets_what_it_is_to_its_model(
    run: Run, service: Script
) -> None:
    service.answer("List", listed(*beside(), ready("m", generation=2, pid=8)))
    lines = run("list").stdout.splitlines()
    assert [line.split()[:5] for line in lines[1:4]] == [
        ["m", "(superseded)", "STOPPING", "1", "7"],
        ["n", "(successor)", "READY", "3", "9"],
        ["(orphan)", "STOPPING", "-", "11", "-"],
    ]
    assert lines[4].split()[:4] == ["m", "READY", "2", "8"]
    assert lines[5] == "  (orphan): unknown"


def test_list_shows_who_waits_and_for_what_and_how_far_a_start_is(
    run: Run, service: Script
) -> None:
    waits = pb.Server(
        model="a",
        state=pb.SERVER_STATE_QUEUED,
        queue_position=2,
        detail="waits for b to go",
        expected_bytes=3_200_000_000,
    )
    loads = pb.Server(
        model="b",
        state=pb.SERVER_STATE_STARTING,
        progress=0.434,
        expected_ready_time=ago(seconds=-75.5),
    )
    service.answer("List", listed(waits, loads))
    rows = run("list").stdout.splitlines()
    assert rows[1].split()[:3] == ["a", "QUEUED", "#2"]
    assert "- / 3.2 GB" in rows[1]
    assert rows[2].split()[:3] == ["b", "STARTING", "43%"]
    assert rows[3] == "  a: waits for b to go"
    assert re.fullmatch(r"  b: about 7[0-6] s left", rows[4])


@pytest.mark.parametrize(
    ("seconds", "told"), [(299, " about 5 min left"), (-1, ""), (3000, " about 50 min left")]
)
def test_how_long_a_start_still_takes_is_told_as_exactly_as_it_matters(
    run: Run, service: Script, seconds: int, told: str
) -> None:
    loads = pb.Server(
        model="b", state=pb.SERVER_STATE_STARTING, expected_ready_time=ago(seconds=-seconds)
    )
    service.answer("List", listed(loads))
    remarks = [row for row in run("list").stdout.splitlines() if row.startswith("  b:")]
    assert remarks == ([f"  b:{told}"] if told else [])


def test_list_shows_who_is_held_or_pinned_and_what_the_configuration_no_longer_says(
    run: Run, service: Script
) -> None:
    pinned = ready("p", pinned=True)
    starting = pb.Server(model="s", state=pb.SERVER_STATE_STARTING, pinned=True)
    service.answer("List", listed(ready("a", holds=2), ready("b", outdated=True), pinned, starting))
    held, kept, stays, comes, remark, _ = run("list").stdout.splitlines()[1:]
    assert held.split()[-3:] == ["2", "-", "held"]
    assert (stays.split()[-1], comes.split()[-1]) == ("pinned", "-")
    assert kept.split()[-3:] == ["-", "-", "never"]
    assert remark == "  b: runs with an earlier configuration, and ends when it is next unused"


@pytest.mark.parametrize(
    ("cause", "is_told"),
    [
        (pb.EXIT_CAUSE_CRASHED, True),
        (pb.EXIT_CAUSE_WEDGED, True),
        (pb.EXIT_CAUSE_MEMORY_LIMIT, True),
        (pb.EXIT_CAUSE_EVICTED, False),
        (pb.EXIT_CAUSE_IDLE, False),
    ],
)
def test_list_says_why_a_server_was_started_again_that_nobody_ended(
    run: Run, service: Script, cause: pb.ExitCause.ValueType, *, is_told: bool
) -> None:
    ended = pb.Exit(generation=1, cause=cause, message="killed by SIGKILL")
    service.answer("List", listed(ready("m", generation=2, last_exit=ended)))
    told = "  m: was started again after generation 1: killed by SIGKILL"
    assert (told in run("list").stdout.splitlines()) == is_told


def test_list_counts_what_stands_by(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse(totals=pb.PoolTotals(standbys=2)))
    assert run("list").output == "0 servers, 2 standing by\n"


SHORT = "; the machine is short of memory"


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"memory_budget_bytes": 20_000_000_000}, "of 20.0 GB, 8.1 GB available"),
        ({}, "without a limit, 8.1 GB available"),
        ({"memory_pressured": True}, f"without a limit, 8.1 GB available{SHORT}"),
    ],
    ids=["budget", "no budget", "pressure"],
)
def test_list_ends_with_the_memory(
    run: Run, service: Script, more: dict[str, Any], shown: str
) -> None:
    totals = pb.PoolTotals(
        memory_reserved_bytes=12_300_000_000,
        memory_available_bytes=8_100_000_000,
        memory_total_bytes=32_000_000_000,
        **more,
    )
    service.answer("List", pb.ListResponse(totals=totals))
    assert run("list").output == f"0 servers\nmemory: 12.3 GB reserved {shown}\n"


def test_list_in_a_pipe_cuts_nothing_off(run: Run, service: Script) -> None:
    service.answer("List", listed(ready(LONG)))
    row = run("list").stdout.splitlines()[1]
    assert LONG in row
    assert "http://127.0.0.1:49321" in row


def test_list_of_an_empty_pool_says_so(run: Run, service: Script) -> None:
    service.answer("List", listed())
    assert run("list").output == "0 servers\n"


def test_list_shows_who_waits_for_its_next_start(run: Run, service: Script) -> None:
    waits = pb.Server(model="b", state=pb.SERVER_STATE_BACKING_OFF, generation=3, detail="it died")
    totals = pb.PoolTotals(servers=1, backing_off=1, waiting_calls=2)
    service.answer("List", pb.ListResponse(servers=[waits], totals=totals))
    lines = run("list").stdout.splitlines()
    assert lines[1].split() == ["b", "BACKING_OFF", "3", "-", "-", "-", "-", "-", "-"]
    assert lines[2:] == ["  b: it died", "1 server: 1 backing off, 2 waiting to be ready"]


def test_list_says_beside_its_output_what_the_service_cannot_do(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse(notices=["no \x1b[31mdisk", "no guard"]))
    for arguments, output in ((["list"], "0 servers\n"), (["list", "--json"], "")):
        result = run(*arguments)
        assert (result.exit_code, result.stdout) == (0, output)
        assert result.stderr == "notice: no \\x1b[31mdisk\nnotice: no guard\n"


def test_list_json_is_an_object_a_line_over_all_pages(run: Run, service: Script) -> None:
    service.answer("List", pb.ListResponse(servers=[ready("a")], next_page_token="t"))
    service.answer("List", listed(ready("b")))
    lines = run("list", "--json").stdout.splitlines()
    assert [json.loads(line)["model"] for line in lines] == ["a", "b"]


def test_nothing_that_a_terminal_obeys_is_passed_on(run: Run, service: Script) -> None:
    evil = "\x1b]0;x\x07\u202e[red]"
    service.answer("List", listed(ready(evil, detail=evil)))
    service.answer("Evict", pb.EvictResponse(evicted=[pb.EvictedServer(server=ready(evil))]))
    service.answer("Ensure", Refusal(StatusCode.INTERNAL, evil, "INTERNAL"))
    service.answer("Watch", changed(1, evil), Refusal(StatusCode.INTERNAL, evil, "INTERNAL"))
    for command in (["list"], ["list", "--json"], ["evict", "m"], ["ensure", "m"], ["watch"]):
        output = run(*command).output
        assert "x1b]0;x" in output or "u001b]0;x" in output
        assert not set(output) & set("\x1b\x07\u202e")


def test_evict_says_what_was_stopped_and_what_was_lost(run: Run, service: Script) -> None:
    stopped = pb.EvictedServer(server=ready("a"))
    killed = pb.EvictedServer(server=ready("b", generation=2), killed=True)
    service.answer("Evict", pb.EvictResponse(evicted=[stopped, killed]))
    result = run("evict", "--all", "--force")
    assert result.stdout.splitlines() == [
        "evicted a (generation 1)",
        "evicted b (generation 2); it had to be killed, and its requests in flight were lost",
    ]
    assert service.asked["Evict"] == [pb.EvictRequest(all=True, force=True)]


def test_evict_of_nothing_is_said_and_no_failure(run: Run, service: Script) -> None:
    service.answer("Evict", pb.EvictResponse())
    people, programs = run("evict", "--idle"), run("evict", "m", "--json")
    assert (people.exit_code, people.output) == (0, "nothing to evict\n")
    assert (programs.exit_code, programs.output) == (0, "")


def test_watch_prints_a_line_for_each_event(run: Run, service: Script) -> None:
    service.answer("List", listed())
    service.answer(
        "Watch",
        changed(3, "a", detail="warm"),
        synced(3),
        removed(4, "a"),
        Refusal(StatusCode.INTERNAL, "the end", "INTERNAL"),
    )
    result = run("watch")
    lines = result.stdout.splitlines()
    assert all(datetime.strptime(line[:19], "%Y-%m-%d %H:%M:%S").astimezone() for line in lines)
    assert [line[21:] for line in lines] == [
        "READY         a (generation 1 pid 4711) http://127.0.0.1:49321: warm",
        "these are all servers at revision 3; changes follow",
        "REMOVED       a (generation 1 pid 4711) http://127.0.0.1:49321",
    ]


def test_watch_distinguishes_two_servers_of_a_model(run: Run, service: Script) -> None:
    superseded, successor, orphan = beside()
    servers = (superseded, ready("m", generation=2, pid=8), successor, orphan)
    told = [pb.WatchResponse(revision=3, server=server) for server in servers]
    # Neither is new: each says what was said of this generation before.
    again = [pb.WatchResponse(revision=4 + n, server=one) for n, one in enumerate(servers[:2])]
    service.answer("List", listed())
    end = Refusal(StatusCode.INTERNAL, "the end", "INTERNAL")
    service.answer("Watch", *told, synced(3), *again, end)
    lines = [line[21:] for line in run("watch").stdout.splitlines()]
    assert [line for line in lines if not line.startswith("these")] == [
        "STOPPING      m (superseded) (generation 1 pid 7)",
        "READY         m (generation 2 pid 8) http://127.0.0.1:49321",
        "READY         n (successor) (generation 3 pid 9)",
        "STOPPING      (orphan) (generation - pid 11): unknown",
    ]


def test_watch_prints_no_line_twice(run: Run, service: Script) -> None:
    service.answer("List", listed())
    end = Refusal(StatusCode.INTERNAL, "the end", "INTERNAL")
    again = (changed(5, "a"), changed(6, "a", detail="warm"), changed(7, "b"), removed(8, "a"))
    service.answer("Watch", changed(3, "a"), synced(3), *again, changed(9, "a"), end)
    words = [line[21:].split("(")[0].split() for line in run("watch").stdout.splitlines()]
    told = [["READY", "a"], ["READY", "a"], ["READY", "b"], ["REMOVED", "a"], ["READY", "a"]]
    assert [line for line in words if line[0] != "these"] == told


def test_watch_json_is_an_object_for_each_event(run: Run, service: Script) -> None:
    service.answer("List", listed())
    end = Refusal(StatusCode.INTERNAL, "the end", "INTERNAL")
    service.answer("Watch", changed(3, "a"), synced(3), removed(4, "a"), end)
    events = [json.loads(line) for line in run("watch", "--json").stdout.splitlines()]
    assert [(event["event"], event["revision"]) for event in events] == [
        ("changed", 3),
        ("synced", 3),
        ("removed", 4),
    ]
    assert [event["server"] and event["server"]["model"] for event in events] == ["a", None, "a"]


def test_watch_after_a_revision_asks_for_what_follows_it(run: Run, service: Script) -> None:
    service.answer("List", listed())
    service.answer("Watch", Refusal(StatusCode.OUT_OF_RANGE, "gone", "REVISION_COMPACTED"))
    result = run("watch", "--after", "0")
    assert (result.exit_code, result.output) == (5, "pool-service: gone\n")
    assert service.asked["Watch"] == [pb.WatchRequest(after_revision=0)]


def test_evict_says_of_what_had_failed_that_it_is_forgotten(run: Run, service: Script) -> None:
    failed = pb.Server(model="f", state=pb.SERVER_STATE_FAILED, generation=1)
    service.answer("Evict", pb.EvictResponse(evicted=[pb.EvictedServer(server=failed)]))
    assert run("evict", "f").stdout == "forgot f, which had failed\n"
