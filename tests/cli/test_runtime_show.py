"""`pool-service runtime show`: which program serves, and which promises are kept with it."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "llama-server"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    file = tmp_path / "pool.toml"
    file.write_text(f'[runtimes.llama]\ncommand = ["{path}"]\n')
    return str(file)


def test_a_runtime_is_shown_by_its_name_with_its_promises(run: Run, config: str) -> None:
    shown = run("runtime", "show", "llama", "--config", config)
    assert shown.exit_code == 0
    lines = dict(line.split(": ", 1) for line in shown.stdout.splitlines())
    assert lines["known as"].strip() == "llama-server"
    assert lines["in flight"].strip().startswith("seen by the program's own count")
    as_json = json.loads(run("runtime", "show", "llama", "--config", config, "--json").stdout)
    assert as_json["known_as"] == "llama-server"
    by_subject = {one["subject"]: one["how"] for one in as_json["promises"]}
    assert by_subject["ready"] == lines["ready"].strip() == "once /health answers healthy"


def test_a_runtime_that_is_not_configured_is_refused_with_those_that_are(
    run: Run, config: str
) -> None:
    shown = run("runtime", "show", "lama", "--config", config)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert (
        "there is no section [runtimes.lama]; the configuration has llama. Without" in shown.stderr
    )
