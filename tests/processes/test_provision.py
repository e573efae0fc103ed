"""Real environments and the real pip, with a wheel of a few hundred bytes made here."""

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.runtime.provision import Provisioner
from pool_service.core.errors import RuntimeUnavailable
from tests.tiny_packages import pin, sdist, wheel


def provisioner(tmp_path: Path, requirement: str) -> Provisioner:
    requirements = tmp_path / "requirements.txt"
    file = Path(requirement)
    pinned = pin(requirement, file if file.is_file() else Path(os.devnull))
    requirements.write_text(f"# a comment\n{pinned}    # via nothing\n")
    return Provisioner(tmp_path / "data", requirements)


async def output(program: Path) -> str:
    process = await asyncio.create_subprocess_exec(program, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0].decode()


def running(part: str) -> list[int]:
    """Processes that have `part` in their arguments."""
    return [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if any(part in word for word in process.info["cmdline"] or ())
    ]


def environments(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "data/runtime").iterdir() if path.is_dir()]


async def test_what_is_not_the_file_that_was_pinned_is_not_installed(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    with wheel(tmp_path, "0.6.0").open("ab") as changed:
        changed.write(b"more")
    with pytest.raises(RuntimeUnavailable, match="DO NOT MATCH THE HASHES"):
        await ours.install()
    assert ours.installed() is None


async def test_what_would_have_to_be_built_here_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "its code ran"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / "requirements.txt").write_text(
        pin("vllm-mlx==0.6.0", sdist(tmp_path, "0.6.0", note))
    )
    with pytest.raises(RuntimeUnavailable, match=r"No matching distribution.*vllm-mlx==0\.6\.0"):
        await Provisioner(tmp_path / "data", tmp_path / "requirements.txt").install()
    assert not note.exists()


async def test_what_is_installed_runs_and_is_found_again(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    assert ours.installed() is None
    steps: list[tuple[int, int, str]] = []
    program = await ours.install(lambda *step: steps.append(step))
    assert await output(program) == "0.6.0\n"
    assert (ours.installed(), ours.is_current()) == (program, True)
    done = [step[0] for step in steps]
    assert done == sorted(done)
    assert steps[-1] == (3, 3, "vllm-mlx 0.6.0 is installed")

    again: list[tuple[int, int, str]] = []
    assert await ours.install(lambda *step: again.append(step)) == program
    assert again == []


@pytest.mark.long
async def test_an_environment_without_its_mark_is_not_used_and_made_again(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    program = await ours.install()
    environment = program.parent.parent
    (environment / "installed.json").unlink()
    (environment / "bin/python").unlink()
    assert ours.installed() is None
    assert await ours.install() == program
    assert await output(program) == "0.6.0\n"


async def test_a_failure_says_pips_last_lines_and_leaves_nothing(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(tmp_path / "none-1-py3-none-any.whl"))
    with pytest.raises(RuntimeUnavailable, match=r"none-1-py3-none-any\.whl"):
        await ours.install()
    assert ours.installed() is None
    assert environments(tmp_path) == []


@pytest.mark.long
async def test_a_version_that_is_too_old_is_not_left_installed(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.2.9")))
    with pytest.raises(RuntimeUnavailable, match=r"0\.2\.9"):
        await ours.install()
    assert environments(tmp_path) == []


async def test_cancelling_ends_what_runs_and_leaves_nothing(tmp_path: Path) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    begun = asyncio.Event()

    def progress(done: int, total: int, text: str) -> None:
        if text == "collecting packages":
            begun.set()

    task = asyncio.create_task(ours.install(progress))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running(str(tmp_path)) == []
    assert environments(tmp_path) == []


@pytest.mark.long
async def test_two_at_once_install_once(tmp_path: Path) -> None:
    first = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    second = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    made: list[str] = []

    def progress(done: int, total: int, text: str) -> None:
        made.append(text)

    programs = await asyncio.gather(first.install(progress), second.install(progress))
    assert programs[0] == programs[1]
    assert made.count("making a virtual environment") == 1


@pytest.mark.long
async def test_after_an_installer_was_killed_the_next_waits_for_its_pip_and_begins_again(
    tmp_path: Path,
) -> None:
    ours = provisioner(tmp_path, str(wheel(tmp_path, "0.6.0")))
    code = (
        "import asyncio, os, pathlib, signal\n"
        "from pool_service.adapters.runtime.provision import Provisioner\n"
        f"root = pathlib.Path({str(tmp_path)!r})\n"
        "def die(done, total, text):\n"
        "    if text.startswith('processing '):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(Provisioner(root / 'data', root / 'requirements.txt').install(die))\n"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, cwd=Path.cwd())
    assert await killed.wait() == -9
    assert len(environments(tmp_path)) == 1
    assert ours.installed() is None
    began_alone: list[bool] = []

    def progress(done: int, total: int, text: str) -> None:
        if text == "making a virtual environment":
            began_alone.append(not running(str(tmp_path)))

    program = await ours.install(progress)
    assert began_alone == [True]
    assert await output(program) == "0.6.0\n"


@pytest.mark.long
async def test_until_a_new_list_is_installed_the_old_environment_serves(tmp_path: Path) -> None:
    old = await provisioner(tmp_path, str(wheel(tmp_path, "0.6.0"))).install()
    newer = provisioner(tmp_path, str(wheel(tmp_path, "0.7.0")))
    assert (newer.installed(), newer.is_current()) == (old, False)
    program = await newer.install()
    assert program != old
    assert newer.installed() == program


async def test_a_data_directory_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(RuntimeUnavailable, match="another data directory"):
        await provisioner(tmp_path, str(wheel(tmp_path, "0.6.0"))).install()
