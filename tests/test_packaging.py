"""The unit files are valid, and keep servers over a restart of the service."""

import configparser
import os
import plistlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service.fleet.app import STOP_GRACE_S

PACKAGING = Path(__file__).parents[1] / "packaging"
UNITS = tuple(sorted((PACKAGING / "systemd").rglob("pool-service.service")))
GATEWAY = PACKAGING / "systemd/user/pool-service-gateway.service"
FRONT = PACKAGING / "systemd/user/pool-service-front.service"
DRAIN_AND_STEPS = 300 + 2 * 10
ANSWERS_AND_STEPS = 10 + 10
"""For the gateway's end: how long answers may go on, and the steps after them."""
CALLS_AND_STEPS = STOP_GRACE_S + 10
"""For the end of a front: how long calls may go on, and the steps after them."""


def settings(unit: Path) -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the way it is documented
    parser.read_string(unit.read_text())
    return parser["Service"]


def by_name(unit: Path) -> str:
    return unit.parent.name


def test_there_is_a_unit_for_the_machine_and_one_for_a_user() -> None:
    assert [unit.parent.name for unit in UNITS] == ["system", "user"]
    assert {*(PACKAGING / "systemd").rglob("*.service")} == {*UNITS, GATEWAY, FRONT}


@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_a_unit_leaves_the_servers_alone(unit: Path) -> None:
    service = settings(unit)
    assert service["KillMode"] == "process"
    assert service["OOMPolicy"] == "continue"
    assert "--keep-servers" in service["ExecStart"]
    assert service["RestartPreventExitStatus"] == "2"
    assert "PrivateTmp" not in service
    assert "RemoveIPC" not in service
    assert "MemoryDenyWriteExecute" not in service


@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_a_unit_gives_the_service_the_time_for_a_drain(unit: Path) -> None:
    assert int(settings(unit)["TimeoutStopSec"]) > DRAIN_AND_STEPS


@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_a_unit_lets_servers_confine_themselves(unit: Path) -> None:
    filters = [line for line in unit.read_text().splitlines() if "SystemCallFilter=" in line]
    permitted = filters[-1].removeprefix("SystemCallFilter=").split()
    assert {"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} < {*permitted}
    assert "seccomp" in permitted


HAS_SYSTEMD = bool(shutil.which("systemd-analyze") or os.environ.get("CI")) and (
    sys.platform == "linux"
)
"""With CI set, what is missing fails."""


def verified(unit: Path, directory: Path, drop_in: str = "") -> str:
    """Return what systemd says of a unit that it accepts, which is nothing if all is well."""
    # Where the program is to be is no part of what is verified.
    program = settings(unit)["ExecStart"].split()[0]
    copy = directory / unit.name
    copy.write_text(unit.read_text().replace(program, "/bin/true"))
    if drop_in:
        (directory / f"{unit.name}.d").mkdir()
        (directory / f"{unit.name}.d" / "one.conf").write_text(drop_in)
    command = ("systemd-analyze", f"--{by_name(unit)}", "verify", str(copy))
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0
    return done.stdout + done.stderr


@pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_systemd_accepts_a_unit_without_a_word(unit: Path, tmp_path: Path) -> None:
    assert verified(unit, tmp_path) == ""


@pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd here")
def test_systemd_accepts_the_gateways_unit_without_a_word(tmp_path: Path) -> None:
    assert verified(GATEWAY, tmp_path) == ""


def test_the_gateways_unit_starts_the_service_and_outlives_it() -> None:
    lines = GATEWAY.read_text().splitlines()
    assert {"Wants=pool-service.service", "After=pool-service.service"} < {*lines}
    assert not [line for line in lines if line.startswith(("Requires=", "BindsTo=", "PartOf="))]
    service = settings(GATEWAY)
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert int(service["TimeoutStopSec"]) > ANSWERS_AND_STEPS
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]


@pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd here")
def test_systemd_accepts_the_unit_of_a_front_without_a_word(tmp_path: Path) -> None:
    assert verified(FRONT, tmp_path) == ""


def test_the_unit_of_a_front_starts_it_again_however_often_it_ends() -> None:
    assert "StartLimitIntervalSec=0" in FRONT.read_text().splitlines()
    service = settings(FRONT)
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert int(service["TimeoutStopSec"]) > CALLS_AND_STEPS
    assert "AF_NETLINK" in service["RestrictAddressFamilies"]


@pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd here")
@pytest.mark.parametrize("unit", UNITS, ids=by_name)
def test_systemd_accepts_the_drop_in_for_control_groups(unit: Path, tmp_path: Path) -> None:
    told = verified(unit, tmp_path, (PACKAGING / "systemd/control-groups.conf").read_text())
    # Before 254 it does not know the second of its keys, and says so.
    unknown = "Unknown key 'DelegateSubgroup' in section [Service], ignoring."
    assert [line for line in told.splitlines() if not line.endswith(unknown)] == []


@pytest.mark.skipif(not HAS_SYSTEMD, reason="there is no systemd here")
def test_the_unit_for_the_machine_can_do_little_else() -> None:
    (unit,) = (unit for unit in UNITS if by_name(unit) == "system")
    command = ("systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit))
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stdout


def test_the_formula_is_ruby() -> None:
    ruby = shutil.which("ruby")
    if not ruby:
        pytest.skip("ruby is not there")
    formula = PACKAGING / "homebrew/pool-service.rb"
    checked = subprocess.run([ruby, "-c", formula], capture_output=True, text=True, check=False)
    assert checked.stdout == "Syntax OK\n"


def test_the_launchd_agent_leaves_the_servers_alone() -> None:
    agent = plistlib.loads((PACKAGING / "launchd" / "pool-service.plist").read_bytes())
    assert agent["AbandonProcessGroup"] is True
    assert agent["ProgramArguments"] == ["@PROGRAM@", "serve", "--keep-servers"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ProcessType"] == "Interactive"
    assert agent["ExitTimeOut"] > DRAIN_AND_STEPS
    assert agent["Umask"] == 0o077


def test_the_gateways_launchd_agent_starts_it_again_only_after_a_crash() -> None:
    agent = plistlib.loads((PACKAGING / "launchd" / "pool-service-gateway.plist").read_bytes())
    assert agent["Label"] == "pool-service-gateway"
    assert agent["ProgramArguments"] == ["@PROGRAM@", "gateway"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > ANSWERS_AND_STEPS
    assert agent["Umask"] == 0o077


def test_the_launchd_agent_of_a_front_starts_it_again_only_after_a_crash() -> None:
    agent = plistlib.loads((PACKAGING / "launchd" / "pool-service-front.plist").read_bytes())
    assert agent["Label"] == "pool-service-front"
    _, *arguments = settings(FRONT)["ExecStart"].replace("%h", "@HOME@").split()
    assert agent["ProgramArguments"] == ["@PROGRAM@", *arguments]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["ExitTimeOut"] > CALLS_AND_STEPS
    assert agent["Umask"] == 0o077
