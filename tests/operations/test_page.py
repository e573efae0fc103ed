"""docs/how-to/operations.md is true: each of its commands prints what the page shows."""

import difflib
import re
from pathlib import Path

import pytest

from pool_service.v1 import pool_service_pb2 as pb
from tests.operations.page import Command, commands, normalized
from tests.operations.scene import ROOT, scene

PAGE = (ROOT / "docs/how-to/operations.md").read_text()
TASKS = (
    "models",
    "pull",
    "ensure",
    "list",
    "watch",
    "hold",
    "reload",
    "forget",
    "pin",
    "unpin",
    "evict",
    "describe",
    "events",
)
"""The commands of pool-service about a running service."""


def differences(command: Command, printed: str) -> str:
    """What is printed and not shown, or shown and not printed; empty if nothing is."""
    shown, seen = normalized(command.shown), normalized(printed)
    lines = difflib.unified_diff(
        shown.splitlines(), seen.splitlines(), "the page", "what it printed", lineterm=""
    )
    return "" if shown == seen else "\n".join([f"$ {command.line}", *lines])


@pytest.mark.long
@pytest.mark.process
@pytest.mark.usefixtures("tools")
def test_every_command_prints_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with scene(PAGE, tmp_path) as service:
        told = [differences(command, service.run(command)) for command in commands(PAGE)]
    assert [each for each in told if each] == []


def test_the_page_calls_everything_there_is_to_call() -> None:
    lines = [command.line for command in commands(PAGE)]
    methods = pb.DESCRIPTOR.services_by_name["PoolService"].methods_by_name
    wanted = [f"pool_service.v1.PoolService/{name}" for name in methods]
    wanted += ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"]
    wanted += ["grpc-health-probe -addr 127.0.0.1:", "grpc-health-probe -addr unix:", "ghz "]
    wanted += [f"pool-service {task}" for task in TASKS]
    assert [each for each in wanted if not any(each in line for line in lines)] == []


def test_the_command_for_every_question_is_run() -> None:
    rows = re.findall(r"^\| ([A-Z].*\?) \| `(pool-service \w+)", PAGE, re.MULTILINE)
    run = " ".join(command.line for command in commands(PAGE.partition("## Find an answer")[2]))
    assert len(rows) == 7
    assert [question for question, command in rows if command not in run] == []


SESSION = """
```console
$ one
a
b
$ two
^C
$ echo $?
5
```
"""


def test_a_session_is_read_as_it_is_typed() -> None:
    assert commands(SESSION) == [
        Command("one", "a\nb\n", interrupted=False, code=0),
        Command("two", "", interrupted=True, code=5),
    ]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ('"state": "READY"', '"state": "FAILED"'),
        ('"generation": "1"', '"generation": "2"'),
        ('"pid": 17', '"pid": "17"'),
        ('"create_time": "2026-01-01T00:00:00Z"', '"create_time": "today"'),
        ("evicted a (generation 1)", "evicted b (generation 1)"),
        ("status: SERVING", "status: SERVING\nexit code 1"),
        ("m  READY  1  5  http://127.0.0.1:5  7 MB / 3.0 GB", "m  READY  1  -  -  7 MB / 3.0 GB"),
        ("7 MB / 3.0 GB", "7 MB / 4.0 GB"),
        ("  99 % in 8.96 ms", "  98 % in 8.96 ms"),
        ("  [OK]   2000 responses", "  [OK]   1999 responses"),
        ('{\n  "done_bytes": "5"\n}\n', '{\n  "done_bytes": "4"\n}\n'),
    ],
)
def test_what_matters_is_reported_when_it_differs(shown: str, printed: str) -> None:
    assert differences(Command("", shown, interrupted=False, code=0), printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ('"pid": 17,', '"pid": 4,'),
        ("http://127.0.0.1:1", "http://127.0.0.1:65535"),
        ('"a": "b",\n  "peak_bytes": "3"\n}', '"a": "b"\n}'),
        ("m  READY  1  5  -  7 MB / 3 GB  -  3s  in 59m", "m   READY  1  77 -  - / 3 GB  -  9m  -"),
    ],
)
def test_what_differs_from_run_to_run_is_not(shown: str, printed: str) -> None:
    assert normalized(shown) == normalized(printed.replace("77 -", "77  -"))
