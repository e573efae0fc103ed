"""Claims about downloads, by the real huggingface_hub from a stand-in for the hub."""

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pool_service.adapters.models import download as fetch_adapter
from pool_service.adapters.models.download import Downloader
from pool_service.adapters.models.files import locate
from pool_service.core.errors import FetchFailed, ModelRejected, RuntimeUnavailable
from tests.fake_hub import COMMIT, Hub, fake_hub
from tests.processes.bench import command_line, until

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


class Held(dict[str, bytes]):
    """Files that a hub lists, and sends once they may go."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.may_go = threading.Event()

    def get(self, *arguments: Any) -> Any:  # noqa: ANN401 - as a dict's
        self.may_go.wait()
        return super().get(*arguments)


class Download:
    """One caller of a downloader, and what it was told."""

    def __init__(self, downloader: Downloader, hub: Hub, home: Path) -> None:
        self.told: list[tuple[int, int]] = []
        self._half = asyncio.Event()
        self._snapshot = home / "hub/models--org--name/snapshots" / COMMIT
        environment = tuple(hub.environment(home).items())
        self.task = asyncio.create_task(
            downloader.fetch(sys.executable, "m", "org/name", environment, self.tell)
        )

    def tell(self, done: int, total: int) -> None:
        self.told.append((done, total))
        if done > 5_000_000:
            self._half.set()

    async def halfway(self) -> None:
        """Return when of the weights a part has arrived, and all the small files have."""
        await self._half.wait()
        small = [self._snapshot / name for name in ("config.json", "tokenizer.json")]
        await until(lambda: all(path.exists() for path in small))


def children() -> list[psutil.Process]:
    offspring = psutil.Process().children(recursive=True)
    return [child for child in offspring if "fetch_child" in command_line(child)]


def parts(home: Path) -> list[Path]:
    return sorted(home.glob("hub/models--*/blobs/*.incomplete"))


async def test_all_that_a_runtime_loads_arrives_and_nothing_else(hub: Hub, tmp_path: Path) -> None:
    download = Download(Downloader(), hub, tmp_path)
    await download.task
    found = locate("org/name", hub.environment(tmp_path))
    assert found is not None
    assert found.complete
    assert found.weight_bytes == len(WEIGHTS)
    assert not (found.path / "pytorch_model.bin").exists()


async def test_the_bytes_that_are_there_rise_to_all_there_are(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    hub.files = held = Held(FILES)
    download = Download(Downloader(), hub, tmp_path)
    await until(lambda: download.told)
    held.may_go.set()
    await download.halfway()
    hub.slow.set()
    await download.task
    done = [each for each, _ in download.told]
    assert done == sorted(done)
    assert done[0] == 0
    assert any(0 < each < WANTED for each in done)
    assert download.told[-1] == (WANTED, WANTED)


async def test_who_gives_up_ends_the_program_and_keeps_the_files_that_are_whole(
    hub: Hub, tmp_path: Path
) -> None:
    hub.slow.clear()
    download = Download(Downloader(), hub, tmp_path)
    await download.halfway()
    download.task.cancel()
    await asyncio.gather(download.task, return_exceptions=True)
    assert children() == []
    found = locate("org/name", hub.environment(tmp_path))
    assert found is None or not found.complete
    hub.slow.set()
    before = len(hub.asked)
    await Download(Downloader(), hub, tmp_path).task
    found = locate("org/name", hub.environment(tmp_path))
    assert found is not None
    assert found.complete
    gets = [each for each in hub.asked[before:] if each.startswith("GET") and "/resolve/" in each]
    assert [get.rpartition("/")[2] for get in gets] == ["model.safetensors"]


async def test_who_gives_up_leaves_no_part_of_a_file(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library never goes on with one, so it would lie there for ever."""
    monkeypatch.setattr(fetch_adapter, "END_TIMEOUT_S", 60.0)
    hub.slow.clear()
    download = Download(Downloader(), hub, tmp_path)
    await download.halfway()
    assert parts(tmp_path)
    download.task.cancel()
    await asyncio.gather(download.task, return_exceptions=True)
    assert parts(tmp_path) == []


async def test_what_a_killed_program_left_is_cleared_and_not_counted(
    hub: Hub, tmp_path: Path
) -> None:
    hub.slow.clear()
    first = Download(Downloader(), hub, tmp_path)
    await first.halfway()
    children()[0].kill()
    await asyncio.gather(first.task, return_exceptions=True)
    assert parts(tmp_path)
    hub.slow.set()
    hub.files = held = Held(FILES)
    again = Download(Downloader(), hub, tmp_path)
    await until(lambda: again.told)
    held.may_go.set()
    await again.task
    assert again.told[0][0] < len(WEIGHTS) // 3
    assert parts(tmp_path) == []


async def test_what_another_program_is_downloading_is_left_to_it(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    ours = Download(Downloader(), hub, tmp_path)
    await ours.halfway()
    its = parts(tmp_path)
    # Of another service, which uses the same cache.
    other = Download(Downloader(), hub, tmp_path)
    await other.halfway()
    assert len(children()) == 2
    other.task.cancel()
    await asyncio.gather(other.task, return_exceptions=True)
    assert parts(tmp_path) == its
    hub.slow.set()
    await ours.task


async def test_two_callers_share_one_download(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    downloader = Downloader()
    first = Download(downloader, hub, tmp_path)
    await first.halfway()
    second = Download(downloader, hub, tmp_path)
    await second.halfway()
    assert len(children()) == 1
    first.task.cancel()
    await asyncio.gather(first.task, return_exceptions=True)
    assert len(children()) == 1, "the second still wants it"
    hub.slow.set()
    await second.task
    gets = [each for each in hub.asked if each.startswith("GET") and "safetensors" in each]
    assert len(gets) == 1


async def test_a_third_download_waits_for_one_of_two(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    downloader = Downloader()
    first, second, third = (Download(downloader, hub, tmp_path / name) for name in "abc")
    await asyncio.gather(first.halfway(), second.halfway())
    assert len(children()) == 2
    first.task.cancel()
    await third.halfway()
    assert len(children()) == 2
    hub.slow.set()
    await asyncio.gather(second.task, third.task)


async def test_callers_with_caches_of_their_own_each_get_the_model(
    hub: Hub, tmp_path: Path
) -> None:
    downloader, homes = Downloader(), (tmp_path / "a", tmp_path / "b")
    await asyncio.gather(*(Download(downloader, hub, home).task for home in homes))
    for home in homes:
        found = locate("org/name", hub.environment(home))
        assert found is not None
        assert found.complete


@pytest.mark.parametrize(
    ("part", "status", "code", "told"),
    [
        ("/api/", 404, "RepoNotFound", "no such model"),
        ("/api/", 404, "", "no such model"),
        # So the hub answers who shows no token, whether there is such a model or not.
        ("/", 401, "RepoNotFound", "no such model"),
        ("/", 403, "GatedRepo", "demands a token"),
        ("/resolve/", 403, "GatedRepo", "demands a token"),
        ("/resolve/", 403, "", "demands a token"),
        ("/", 403, "", "demands a token"),
    ],
)
async def test_a_model_that_is_not_there_or_not_for_us_is_rejected(
    hub: Hub, tmp_path: Path, part: str, status: int, code: str, told: str
) -> None:
    hub.refusals[part] = status, code
    with pytest.raises(ModelRejected, match=told) as caught:
        await Download(Downloader(), hub, tmp_path).task
    assert "org/name" in caught.value.message
    assert caught.value.model == "m"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
async def test_a_model_that_lacks_what_it_takes_to_load_it_is_rejected(
    hub: Hub, tmp_path: Path, name: str
) -> None:
    """It would be found incomplete, and fetched, for ever."""
    hub.files = {other: FILES[other] for other in FILES if other != name}
    with pytest.raises(ModelRejected, match="cannot be loaded"):
        await Download(Downloader(), hub, tmp_path).task


async def test_a_hub_that_fails_after_its_first_answer_is_no_success(
    hub: Hub, tmp_path: Path
) -> None:
    """The library then is content with what is on disk: here a snapshot without a file."""
    repository = tmp_path / "hub/models--org--name"
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    # Not 500, which it asks again for half a minute.
    hub.refusals["/tree/"] = 400, ""
    with pytest.raises(FetchFailed, match="has not arrived"):
        await Download(Downloader(), hub, tmp_path).task


async def test_a_hub_in_trouble_is_reported_as_that(hub: Hub, tmp_path: Path) -> None:
    hub.refusals["/"] = 500, ""
    with pytest.raises(FetchFailed, match="500 Internal Server Error"):
        await Download(Downloader(), hub, tmp_path).task


@contextmanager
def silent() -> Iterator[int]:
    """A port whose connections are neither made nor refused: its queue is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9 cannot be reached .Connection refused."),
        ("https://hub.invalid", "hub.invalid has no address"),
        ("http://127.0.0.1:{silent}", "does not answer within 1.5 s"),
    ],
)
async def test_a_missing_network_is_reported_at_once_with_what_to_do(
    hub: Hub, tmp_path: Path, endpoint: str, why: str
) -> None:
    with silent() as port:
        hub.endpoint = endpoint.format(silent=port)
        with pytest.raises(FetchFailed, match=f"{why}.*Check the network"):
            await Download(Downloader(), hub, tmp_path).task


async def test_behind_a_proxy_the_error_names_the_proxy(hub: Hub, tmp_path: Path) -> None:
    hub.endpoint = "http://hub.invalid"
    environment = (*hub.environment(tmp_path).items(), ("http_proxy", "http://127.0.0.1:9"))
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1:9 cannot"):
        await Downloader().fetch(sys.executable, "m", "org/name", environment, lambda *_: None)


async def test_a_python_without_the_library_is_reported_as_that(hub: Hub, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nshift\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(RuntimeUnavailable, match="Install huggingface_hub"):
        await Downloader().fetch(str(bare), "m", "org/name", (), lambda *_: None)


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("HF_HUB_OFFLINE", "1", "offline mode is enabled.*Unset HF_HUB_OFFLINE"),
        ("TRANSFORMERS_OFFLINE", "yes", "offline mode is enabled.*TRANSFORMERS_OFFLINE"),
        ("HF_ENDPOINT", "hub.example", "Set HF_ENDPOINT"),
        ("HF_ENDPOINT", "ftp://hub.example", "Set HF_ENDPOINT"),
        ("HF_ENDPOINT", "http://[::1", "Set HF_ENDPOINT"),
        ("HF_TOKEN", "\N{BOM}hf_x", "Correct HF_TOKEN"),
        ("HF_HOME", "/dev/null/cache", "Let the service's user write"),
    ],
)
async def test_what_no_further_try_changes_is_reported_as_definite(
    hub: Hub, tmp_path: Path, variable: str, value: str, told: str
) -> None:
    environment = hub.environment(tmp_path)
    if variable == "TRANSFORMERS_OFFLINE":
        del environment["HF_HUB_OFFLINE"]
    environment[variable] = value
    with pytest.raises(RuntimeUnavailable, match=told):
        await fetch(environment)


async def fetch(environment: dict[str, str]) -> None:
    given = tuple(environment.items())
    await Downloader().fetch(sys.executable, "m", "org/name", given, lambda *_: None)


async def test_offline_there_is_nothing_to_do_for_a_model_that_is_there(
    hub: Hub, tmp_path: Path
) -> None:
    await Download(Downloader(), hub, tmp_path).task
    await fetch(hub.environment(tmp_path) | {"HF_HUB_OFFLINE": "1"})


async def test_a_python_that_is_gone_is_reported_as_definite(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable, match="Install the runtime again"):
        await Downloader().fetch(
            "/nonexistent/python", "m", "org/name", (("HF_HOME", str(tmp_path)),), lambda *_: None
        )


async def test_of_a_path_there_is_nothing_to_download(tmp_path: Path) -> None:
    await Downloader().fetch("/nonexistent", "m", str(tmp_path), (), lambda *_: None)


async def test_the_program_ends_when_the_service_does(hub: Hub, tmp_path: Path) -> None:
    hub.slow.clear()
    child = Path(__file__).parents[2] / "pool_service/adapters/children/fetch_child.py"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", str(child), "org/name"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=hub.environment(tmp_path),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    while not parts(tmp_path):
        assert await process.stdout.readline()
    process.stdin.close()
    assert await process.wait() == 0
    assert parts(tmp_path) == []
