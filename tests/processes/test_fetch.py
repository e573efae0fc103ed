"""Claims about downloads, by the real huggingface_hub from a stand-in for the hub."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pool_service.adapters.fetch import Downloader
from pool_service.adapters.model_files import locate
from pool_service.core.errors import FetchFailed, ModelRejected
from tests.fake_hub import Hub, fake_hub

WEIGHTS = b"w" * 30_000_000  # the library writes ten megabytes at a time
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b'{"t": 1}',
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"another format",
}
WANTED = sum(len(content) for name, content in FILES.items() if not name.endswith(".bin"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with fake_hub(FILES) as running:
        yield running


class Download:
    """One caller of a downloader, and what it was told."""

    def __init__(self, downloader: Downloader, hub: Hub, home: Path) -> None:
        self.told: list[tuple[int, int]] = []
        self.half = asyncio.Event()
        environment = tuple(hub.environment(home).items())
        self.task = asyncio.create_task(
            downloader.fetch(sys.executable, "m", "org/name", environment, self.tell)
        )

    def tell(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if done > 5_000_000:
            self.half.set()


def children() -> list[psutil.Process]:
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.status() != psutil.STATUS_ZOMBIE and "fetch_child" in " ".join(child.cmdline())
    ]


async def test_all_that_a_runtime_loads_arrives_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    download = Download(Downloader(), hub, tmp_path)
    await download.task
    found = locate("org/name", hub.environment(tmp_path))
    assert found is not None
    assert found.complete
    assert found.weights == len(WEIGHTS)
    assert not (found.path / "pytorch_model.bin").exists()


async def test_the_bytes_that_are_there_rise_to_all_there_are(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    download = Download(Downloader(), hub, tmp_path)
    await download.half.wait()
    hub.slow.set()
    await download.task
    done = [each for each, _ in download.told]
    assert done == sorted(done)
    assert done[0] == 0
    assert any(0 < each < WANTED for each in done)
    assert download.told[-1] == (WANTED, WANTED)


async def test_who_gives_up_ends_the_program_and_keeps_what_was_fetched(
    hub: Hub, tmp_path: Path
) -> None:
    hub.slow.clear()
    download = Download(Downloader(), hub, tmp_path)
    await download.half.wait()
    download.task.cancel()
    await asyncio.gather(download.task, return_exceptions=True)
    assert children() == []
    found = locate("org/name", hub.environment(tmp_path))
    assert found is None or not found.complete
    hub.slow.set()
    await Download(Downloader(), hub, tmp_path).task
    found = locate("org/name", hub.environment(tmp_path))
    assert found is not None
    assert found.complete


async def test_two_callers_share_one_download(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    downloader = Downloader()
    first = Download(downloader, hub, tmp_path)
    await first.half.wait()
    second = Download(downloader, hub, tmp_path)
    await second.half.wait()
    assert len(children()) == 1
    first.task.cancel()
    await asyncio.gather(first.task, return_exceptions=True)
    assert len(children()) == 1, "the second still wants it"
    hub.slow.set()
    await second.task
    gets = [each for each in hub.asked if each.startswith("GET") and "safetensors" in each]
    assert len(gets) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_model_that_is_not_there_or_not_ours_is_rejected(
    hub: Hub, tmp_path: Path, status: int
) -> None:
    hub.status = status
    hub.repository = "somebody/else"
    with pytest.raises((ModelRejected, FetchFailed)) as caught:
        await Download(Downloader(), hub, tmp_path).task
    assert "org/name" in caught.value.message
    assert caught.value.model == "m"


async def test_a_hub_that_cannot_be_reached_is_told_as_that(hub: Hub, tmp_path: Path) -> None:
    hub.endpoint = "http://127.0.0.1:9"
    with pytest.raises(FetchFailed, match="Try again"):
        await Download(Downloader(), hub, tmp_path).task


async def test_a_python_without_the_library_is_told_as_that(hub: Hub, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(FetchFailed, match="huggingface_hub"):
        await Downloader().fetch(str(bare), "m", "org/name", (), lambda *_: None)


async def test_of_a_path_there_is_nothing_to_download(tmp_path: Path) -> None:
    await Downloader().fetch("/nonexistent", "m", str(tmp_path), (), lambda *_: None)


async def test_the_program_ends_when_the_service_does(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    child = Path(__file__).parents[2] / "pool_service/adapters/fetch_child.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(child), "org/name"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=hub.environment(tmp_path),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    await process.stdout.readline()
    process.stdin.close()
    assert await process.wait() == 1
