import asyncio
import errno
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.core.errors import RuntimeUnavailable, StartFailed
from pool_service.core.server import StopSignal
from tests.processes.bench import Bench, again, plan

pytestmark = pytest.mark.quick
SLEEP = plan("/bin/sleep", "1000")


@contextmanager
def limit(which: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(which)
    resource.setrlimit(which, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(which, before)


def nothing_is_left(bench: Bench) -> bool:
    work = bench.state_dir / "work"
    directories = list(work.iterdir()) if work.exists() else []
    return not directories and not list(bench.state_dir.rglob("*.log"))


async def test_a_process_leads_a_session_and_a_group_of_its_own(bench: Bench) -> None:
    identity = await bench.spawn(SLEEP)
    assert os.getsid(identity.pid) == os.getpgid(identity.pid) == identity.pid


async def test_a_process_has_the_plans_environment_a_nonce_and_nothing_else(bench: Bench) -> None:
    one = await bench.up(model="one", environment={"A": "1"})
    other = await bench.up(model="other")
    environment = psutil.Process(one.identity.pid).environ()
    assert environment.keys() == {"A", NONCE_VARIABLE}
    assert (
        environment[NONCE_VARIABLE] != psutil.Process(other.identity.pid).environ()[NONCE_VARIABLE]
    )


async def test_a_process_works_in_an_empty_private_directory_that_goes_with_it(
    bench: Bench,
) -> None:
    identity = await bench.spawn(SLEEP)
    directory = Path(psutil.Process(identity.pid).cwd())
    assert contents_and_mode(directory) == ([], 0o700)
    await bench.processes.signal(identity, StopSignal.TERMINATE)
    await bench.processes.exited(identity)
    await bench.processes.clean_up(identity)
    assert contents_and_mode(directory.parent) == ([], 0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_process_has_no_input_its_log_as_output_and_no_descriptor_of_ours(
    bench: Bench, tmp_path: Path
) -> None:
    with (tmp_path / "lock").open("w") as ours:
        os.set_inheritable(ours.fileno(), True)
        spawned = await bench.processes.spawn("x", 1, SLEEP)
        of_ours = set(open_files(os.getpid()).values())
    bench.identities.append(spawned.identity)
    assert str(tmp_path / "lock") in of_ours
    theirs = open_files(spawned.identity.pid)
    standard = [theirs.pop(number) for number in range(3)]
    assert standard == ["/dev/null", spawned.log_path, spawned.log_path]
    # What else is open for a moment is its own: the program is just being loaded.
    assert not set(theirs.values()) & of_ours


@pytest.mark.long
async def test_of_400_spawns_50_at_a_time_none_is_lost(bench: Bench) -> None:
    turn = asyncio.Semaphore(50)
    exits = plan("/bin/sh", "-c", "echo here; exit 7")

    async def one(number: int) -> tuple[int | None, tuple[str, ...]]:
        async with turn:
            spawned = await bench.processes.spawn(f"model-{number}", 1, again(exits))
            report = await bench.processes.exited(spawned.identity)
            await bench.processes.clean_up(spawned.identity)
            return report.code, report.last_lines

    assert set(await asyncio.gather(*map(one, range(400)))) == {(7, ("here",))}


async def test_a_missing_program_is_said_to_be_missing(bench: Bench) -> None:
    with pytest.raises(RuntimeUnavailable, match="'/no/such/program': there is no such file"):
        await bench.spawn(plan("/no/such/program"))
    assert nothing_is_left(bench)


async def test_a_program_whose_interpreter_is_missing_is_distinguished(
    bench: Bench, tmp_path: Path
) -> None:
    script = tmp_path / "runtime"
    script.write_text("#!/no/such/python\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeUnavailable, match="interpreter that its first line names"):
        await bench.spawn(plan(str(script)))


async def test_a_file_that_is_not_executable_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "runtime").write_text("#!/bin/sh\n")
    with pytest.raises(RuntimeUnavailable, match="not executable"):
        await bench.spawn(plan(str(tmp_path / "runtime")))


async def test_a_file_that_is_no_program_is_refused(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "runtime").write_bytes(bytes(64))
    (tmp_path / "runtime").chmod(0o755)
    with pytest.raises(RuntimeUnavailable, match="not a program of this machine"):
        await bench.spawn(plan(str(tmp_path / "runtime")))
    assert nothing_is_left(bench)


@pytest.mark.parametrize(
    ("number", "why"),
    [(85, "its format is damaged"), (86, "another kind of processor"), (88, "format is damaged")],
)
async def test_what_macos_says_of_a_program_that_is_none_is_reported_in_words(
    number: int, why: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, "as macOS says it")

    monkeypatch.setattr("pool_service.adapters.process.launch.subprocess.Popen", refused)
    with pytest.raises(RuntimeUnavailable, match=why):
        await bench.spawn(SLEEP)
    assert nothing_is_left(bench)


async def test_a_log_that_cannot_be_written_refuses_the_start(bench: Bench) -> None:
    with (
        limit(resource.RLIMIT_FSIZE, 0),
        pytest.raises(StartFailed, match=os.strerror(errno.EFBIG)) as caught,
    ):
        await bench.spawn(SLEEP)
    assert "ulimit -f" in caught.value.message
    assert nothing_is_left(bench)


async def test_a_state_directory_that_is_none_refuses_the_start(bench: Bench) -> None:
    bench.state_dir.write_text("")
    with pytest.raises(StartFailed, match="--state-dir"):
        await bench.spawn(SLEEP)


async def test_without_descriptors_a_start_is_refused_and_later_ones_are_not(
    bench: Bench,
) -> None:
    await bench.spawn(SLEEP)  # what is imported at first need is imported
    with limit(resource.RLIMIT_NOFILE, psutil.Process().num_fds()):
        descriptors = list(all_that_are_free())
        try:
            with pytest.raises(StartFailed, match="ulimit -n"):
                await bench.spawn(SLEEP, "other")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
    await bench.spawn(SLEEP, "other")


def contents_and_mode(directory: Path) -> tuple[list[str], int]:
    return os.listdir(directory), directory.stat().st_mode & 0o777  # noqa: PTH208 - the names


def open_files(pid: int) -> dict[int, str]:
    """What each descriptor leads to, but for those that are closed meanwhile."""
    files = {}
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            files[int(link.name)] = str(link.readlink())
    return files


def all_that_are_free() -> Iterator[int]:
    """Duplicates of one descriptor until the limit is reached, whatever other threads open."""
    while True:
        try:
            yield os.dup(0)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            return
