"""Installation of the runtime, with a shell script in the place of Python and pip."""

import asyncio
import fcntl
import json
import os
import sys
from pathlib import Path

import pytest

from pool_service.adapters.process.exits import exit_watch, wait_for_exit
from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.runtime import provision
from pool_service.adapters.runtime.provision import (
    Provisioner,
    _count_requirements,
    _environment,
    _Steps,
    platform_flaw,
)
from pool_service.adapters.system import process_settings
from pool_service.core.errors import RuntimeUnavailable
from tests.adapters.descriptor_limits import descriptor_limits

# Answers `-m venv DIRECTORY` and `-m pip install ...`; {venv} and {pip} run before.
PYTHON = """#!/bin/sh
case "$2" in
venv) {venv}
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python" ;;
pip) {pip}
    echo "Collecting vllm-mlx==0.6.0"
    echo
    echo "Installing collected packages: vllm-mlx"
    printf '#!/bin/sh\\necho {version}\\n' > "${{0%/*}}/vllm-mlx"
    chmod +x "${{0%/*}}/vllm-mlx" ;;
esac
"""
LIST = "# a comment\n--index-url x\n\nvllm-mlx==0.6.0 \\\n    --hash=sha256:0\n    # via nothing\n"

Steps = list[tuple[int, int, str]]


def provisioner(root: Path, venv: str = "", pip: str = "", version: str = "0.6.0") -> Provisioner:
    python, requirements = root / "python", root / "requirements.txt"
    python.write_text(PYTHON.format(venv=venv or ":", pip=pip or ":", version=version))
    python.chmod(0o755)
    requirements.write_text(LIST)
    return Provisioner(root / "data", requirements, str(python))


async def installed(one: Provisioner) -> Steps:
    """Install; return the progress that was reported."""
    steps: Steps = []
    await one.install(lambda *step: steps.append(step))
    return steps


def environments(root: Path) -> list[Path]:
    return [path for path in (root / "data/runtime").iterdir() if path.is_dir()]


async def test_each_step_of_an_installation_is_reported_and_a_second_one_has_none(
    tmp_path: Path,
) -> None:
    one = provisioner(tmp_path)
    assert (one.installed(), one.is_current()) == (None, False)
    assert await installed(one) == [
        (0, 3, "making a virtual environment"),
        (1, 3, "collecting packages"),
        (2, 3, "collecting vllm-mlx==0.6.0"),
        (2, 3, "installing the packages"),
        (3, 3, "vllm-mlx 0.6.0 is installed"),
    ]
    assert one.is_current()
    program = one.installed()
    assert program is not None
    marker = program.parent.parent / "installed.json"
    assert json.loads(marker.read_text()) == {"version": "0.6.0"}
    assert await installed(one) == []


def test_a_step_is_counted_for_each_package_and_the_last_one_is_the_end() -> None:
    told: Steps = []
    steps = _Steps(4, lambda *step: told.append(step))
    for line in ("Collecting a==1", "Processing ./b.whl", "Ignoring c: markers", "Downloading d"):
        steps.on_pip_line(line)
    steps.on_pip_line("Collecting e")
    steps.on_pip_line("Installing collected packages: a, b")
    steps.finish("done")
    assert told == [
        (1, 4, "collecting a==1"),
        (2, 4, "processing ./b.whl"),
        (3, 4, "ignoring c"),
        (3, 4, "collecting e"),
        (3, 4, "installing the packages"),
        (4, 4, "done"),
    ]


def test_requirements_are_counted_without_options_comments_and_hashes(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(LIST + "other==1 \\\n    --hash=sha256:1\n")
    assert _count_requirements(requirements) == 2


async def test_a_failure_is_told_with_its_last_lines_and_leaves_nothing(tmp_path: Path) -> None:
    lines = "for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do echo line $n; done; exit 3"
    one = provisioner(tmp_path, pip=lines)
    with pytest.raises(RuntimeUnavailable) as caught:
        await one.install()
    message = str(caught.value)
    assert message.splitlines()[1:] == [f"line {number}" for number in range(3, 15)]
    assert "python3-venv" not in message
    assert environments(tmp_path) == []


async def test_a_failure_without_a_word_is_told_by_its_exit_code(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match=r"apt install python3-venv\. .*\nexit code 7"):
        await provisioner(tmp_path, venv="exit 7").install()
    assert environments(tmp_path) == []


async def test_a_version_below_the_minimum_does_not_stay_installed(tmp_path: Path) -> None:
    one = provisioner(tmp_path, version="0.2.9")
    with pytest.raises(RuntimeUnavailable, match=r"0\.2\.9"):
        await one.install()
    assert environments(tmp_path) == []
    assert one.installed() is None


async def test_an_environment_without_its_marker_is_made_anew_from_nothing(tmp_path: Path) -> None:
    one = provisioner(tmp_path)
    program = await one.install()
    root = program.parent.parent
    (root / "installed.json").unlink()
    (root / "left over").touch()
    (root.parent / "trash-earlier").mkdir()
    assert one.installed() is None
    assert await one.install() == program
    assert not (root / "left over").exists()
    assert environments(tmp_path) == [root]


async def test_an_environment_whose_program_is_not_executable_is_not_used(tmp_path: Path) -> None:
    one = provisioner(tmp_path)
    (await one.install()).chmod(0o644)
    assert (one.installed(), one.is_current()) == (None, False)


async def test_without_the_present_list_the_environment_installed_last_is_used(
    tmp_path: Path,
) -> None:
    one = provisioner(tmp_path)
    program = await one.install()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(LIST + "# another\n")
    other = await one.install()
    assert other != program
    requirements.write_text(LIST + "# a third\n")
    for newest, older in ((program, other), (other, program)):
        os.utime(older.parent.parent / "installed.json", (1, 1))
        os.utime(newest.parent.parent / "installed.json", (2, 2))
        assert (one.installed(), one.is_current()) == (newest, False)
    requirements.write_text(LIST)
    assert one.installed() == program, "that of the present list comes first"


async def test_an_installation_waits_for_another_one_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provision, "_LOCK_POLL_S", 0.0)
    one = provisioner(tmp_path)
    lock = tmp_path / "data/runtime/lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        steps: Steps = []

        def progress(*step: object) -> None:
            steps.append(step)  # type: ignore[arg-type]
            fcntl.flock(others, fcntl.LOCK_UN)

        await one.install(progress)
    assert steps[:2] == [
        (0, 1, "waiting for another installation to end"),
        (0, 3, "making a virtual environment"),
    ]


async def test_cancelling_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    one = provisioner(tmp_path, pip=f"echo $$ > {note}; echo Collecting x; exec sleep 1000")
    begun = asyncio.Event()

    def progress(_done: int, _total: int, text: str) -> None:
        if text == "collecting x":
            begun.set()

    task = asyncio.create_task(one.install(progress))
    await begun.wait()
    identity = identity_of(int(note.read_text()))
    assert identity is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_for_exit(exit_watch(), identity)
    assert environments(tmp_path) == []


async def test_a_data_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(RuntimeUnavailable, match="name another data directory"):
        await provisioner(tmp_path).install()


def test_pip_gets_neither_secrets_nor_a_persons_own_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PIP_TARGET", "PYTHONPATH", "HF_TOKEN", "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    environment = _environment()
    assert environment["PYTHONUNBUFFERED"] == "1"
    assert environment["PIP_INDEX_URL"] == "x"
    assert not environment.keys() & {"PIP_TARGET", "PYTHONPATH", "HF_TOKEN"}


async def test_a_machine_without_packages_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(RuntimeUnavailable, match="Intel processors"):
        await provisioner(tmp_path).install()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("system", "machine", "mac_version", "python", "told"),
    [
        ("linux", "x86_64", "", (3, 11), None),
        ("darwin", "arm64", "14.0", (3, 14), None),
        ("darwin", "arm64", "26.1", (3, 12), None),
        ("darwin", "arm64", "13.7.2", (3, 12), "macOS 13.7.2 is too old"),
        ("darwin", "x86_64", "15.1", (3, 12), "for Intel processors"),
        ("linux", "arm64", "", (3, 12), None),
        ("linux", "x86_64", "", (3, 15), "Python 3.15 is too new"),
    ],
)
def test_where_there_are_no_packages_that_is_said_before_pip_says_it(
    system: str, machine: str, mac_version: str, python: tuple[int, int], told: str | None
) -> None:
    flaw = platform_flaw(system, machine, mac_version, python)
    assert flaw is None if told is None else told in (flaw or "")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets another process's limits")
async def test_pip_has_the_limits_that_the_service_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_settings, "_given_descriptors", (100, 200))
    note, go, limits = tmp_path / "pid", tmp_path / "go", list[tuple[int, int]]()
    os.mkfifo(go)
    one = provisioner(tmp_path, pip=f"echo $$ > {note}; echo Collecting x; read -r line < {go}")

    def progress(_done: int, _total: int, text: str) -> None:
        if text == "collecting x":
            limits.append(descriptor_limits(int(note.read_text())))
            go.write_text("\n")

    await one.install(progress)
    assert limits == [(100, 200)]
