"""What is promised to clients in proto/promised.binpb is not broken unnoticed."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PROTO = Path(__file__).resolve().parents[2] / "proto"
BUF = PROTO / "node_modules/.bin/buf"
FILE = "pool_service/v1/pool_service.proto"

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not (BUF.exists() or os.environ.get("CI")),
        reason="buf is not there; `make lint` installs it",
    ),
]

Change = Callable[[str], str]
"""Another text of the proto file."""


def breaks(directory: Path, change: Change) -> str:
    """What buf says of proto/ as it would be with this change; empty if nothing."""
    (directory / FILE).parent.mkdir(parents=True)
    shutil.copy(PROTO / "buf.yaml", directory)
    text = (PROTO / FILE).read_text()
    changed = change(text)
    (directory / FILE).write_text(changed)
    command = [str(BUF), "breaking", str(directory), "--against", str(PROTO / "promised.binpb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


def without(line: str) -> Change:
    return lambda text: text.replace(line, "", 1)


def test_as_it_is_it_breaks_nothing(tmp_path: Path) -> None:
    assert breaks(tmp_path, lambda text: text) == ""


def test_additions_break_nothing(tmp_path: Path) -> None:
    def add(text: str) -> str:
        text = text.replace("message ReloadRequest {}", "message ReloadRequest { bool dry = 1; }")
        return re.sub(r"(SERVER_STATE_READY = 3;)", r"\1 SERVER_STATE_NEW = 99;", text)

    assert breaks(tmp_path, add) == ""


@pytest.mark.parametrize(
    "change",
    [
        without("  string endpoint = 5;\n"),
        without("  SERVER_STATE_BACKING_OFF = 6;\n"),
        without("  rpc Reload(ReloadRequest) returns (ReloadResponse);\n"),
        lambda text: text.replace("uint32 pid = 7", "int64 pid = 7"),
        lambda text: text.replace("bool started = 2", "bool started = 3"),
        lambda text: text.replace("optional bool download", "bool download"),
        lambda text: text.replace('java_package = "', 'java_package = "other.'),
    ],
    ids=["a field", "an enum value", "a call", "a type", "a number", "a presence", "a name"],
)
def test_what_would_break_clients_is_reported(tmp_path: Path, change: Change) -> None:
    assert breaks(tmp_path, change)
