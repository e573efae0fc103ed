"""How a service comes to hold a state directory that a guard has."""

import subprocess
import sys
from pathlib import Path

import pytest

from pool_service.adapters.state_dir import takeover
from pool_service.adapters.state_dir.directory_lock import StateDir, StateDirHeld
from pool_service.adapters.state_dir.takeover import take

# As a guard that takes its time: SIGTERM alone does not end it.
GUARD = """
import signal, sys
from pathlib import Path
from pool_service.adapters.state_dir.directory_lock import StateDir
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with StateDir(Path(sys.argv[1])) as state:
    state.announce((), doing="is the guard")
    print("holds", flush=True)
    sys.stdin.read()
"""
TWICE = 2


def test_a_guard_that_ends_right_after_it_has_kept_a_service_out_does_so_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_dir, refusals = tmp_path / "state", 0
    pipe = subprocess.PIPE
    command = (sys.executable, "-c", GUARD, str(state_dir))
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as guard:
        assert guard.stdout
        assert guard.stdout.readline() == b"holds\n"

        def tried(path: Path) -> StateDir:
            """Once the guard was sent away, it ends between a refusal and what is made of it."""
            nonlocal refusals
            try:
                return StateDir(path)
            except StateDirHeld:
                refusals += 1
                if refusals == TWICE:
                    guard.kill()
                    guard.wait()
                raise

        monkeypatch.setattr(takeover, "SETTLE_S", 0.0)
        monkeypatch.setattr(takeover, "StateDir", tried)
        take(state_dir).close()
    assert refusals == TWICE
