"""The part of launchctl, and of the launchd behind it, that tools/mac_launchd.sh uses.

FAKE_LAUNCHD: a directory for what it remembers; FAKE_LAUNCHD_KILLS=all: with the service its
servers are killed, as they must not be.
"""

import contextlib
import os
import plistlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

HERE = Path(os.environ["FAKE_LAUNCHD"])
PID, WANTED, OUT, AGENT = (HERE / name for name in ("pid", "wanted", "out", "agent.plist"))
PACE_S = 0.05


def supervise() -> None:
    """Run the agent's program, and again whenever it crashed or is asked for."""
    agent = plistlib.loads(AGENT.read_bytes())
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["AbandonProcessGroup"]
    while not OUT.exists():
        with Path(agent["StandardErrorPath"]).open("ab") as log:
            service = subprocess.Popen(
                agent["ProgramArguments"],
                env=agent["EnvironmentVariables"] | {"HOME": agent["WorkingDirectory"]},
                cwd=agent["WorkingDirectory"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=agent["Umask"],
                start_new_session=True,
            )
        WANTED.unlink(missing_ok=True)
        PID.write_text(str(service.pid))
        code = service.wait()
        while code == 0 and not WANTED.exists() and not OUT.exists():
            time.sleep(PACE_S)
    (HERE / "gone").touch()


def kill(number: int) -> None:
    """Signal the service."""
    service = psutil.Process(int(PID.read_text()))
    others = service.children(recursive=True) if "FAKE_LAUNCHD_KILLS" in os.environ else []
    service.send_signal(number)
    for one in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def bootstrap(plist: str) -> None:
    AGENT.write_bytes(Path(plist).read_bytes())
    quiet = subprocess.DEVNULL
    subprocess.Popen(
        (sys.executable, __file__, "supervise"), stdin=quiet, stdout=quiet, start_new_session=True
    )
    until_there(PID)


def bootout() -> None:
    OUT.touch()
    with contextlib.suppress(psutil.NoSuchProcess):
        kill(signal.SIGTERM)
    until_there(HERE / "gone")


def until_there(path: Path) -> None:
    while not path.exists():
        time.sleep(PACE_S)


def main() -> None:
    match sys.argv[1:]:
        case ["bootstrap", _, plist]:
            bootstrap(plist)
        case ["supervise"]:
            supervise()
        case ["kickstart", "-k", _]:
            kill(signal.SIGKILL)
        case ["kickstart", _]:
            WANTED.touch()
        case ["kill", name, _]:
            kill(signal.Signals[name])
        case ["print", target]:
            print(f"{target} = {{\n\tstate = running\n\tpid = {PID.read_text()}\n}}")
        case ["bootout", _]:
            bootout()
        case _:
            sys.exit(f"unknown: {sys.argv}")


if __name__ == "__main__":
    main()
