"""Kept prompts outlive their servers, with the real vllm-mlx and without harm."""

import json
import os
import signal
import struct
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from stat import S_ISREG

import psutil
import pytest

from pool_service.adapters.children.kept_prompts import REPORT, REPORT_FORMAT, UNKNOWN
from pool_service_client import PoolClient, PromptCache, Server, ServerState
from tests.idle import await_idle
from tests.whole.patient import PATIENT
from tests.whole.runs import headers
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm
from tools.demo.service import running

pytestmark = pytest.mark.whole

SYSTEM = " ".join(f"Rule {number}: be brief, be kind, be right." for number in range(12))
"""Some 400 tokens, as the tiny model has a token for each byte."""

Begin = Callable[[str], PoolClient]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_tiny_llama(directory / "llama")
    write_tiny_vlm(directory / "vlm")
    return directory


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Start a service with this configuration, in place of the one before."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with ExitStack() as stack:

        def one(config: str) -> PoolClient:
            path = tmp_path / "config.toml"
            path.write_text(config)
            service = stack.enter_context(
                running(tmp_path / "state", arguments=["--config", str(path)], wrapper=PATIENT)
            )
            return stack.enter_context(PoolClient.connect(service.address))

        yield one
    assert not (tmp_path / "home" / ".cache" / "vllm-mlx").exists()


def configured(models: Path, standby: int = 0, more: str = "") -> str:
    return (
        f"[service]\nstandby = {standby}\nreplace = true\nprobe_interval = 0.2\n"
        f"[models.m]\nruntime_model = '{models / 'llama'}'\n{more}\n"
    )


def ask(server: Server, question: str = "Which rule is the first?") -> str:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    body: dict[str, object] = {"model": server.served_model_name, "messages": messages}
    body |= {"max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        headers(server),
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
    await_idle(server.endpoint)
    return answer


def kept(server: Server) -> PromptCache:
    assert server.prompt_cache is not None
    return server.prompt_cache


def await_reuse(pool: PoolClient) -> int:
    """Return how many tokens the server has reused, as soon as a probe has told any."""
    while True:
        (server,) = pool.list()
        if kept(server).reused_tokens:
            return kept(server).reused_tokens


@pytest.mark.parametrize("standby", [0, 1], ids=["plain command", "standby"])
def test_the_next_server_has_the_prompts_of_the_last_and_answers_the_same(
    begin: Begin, models: Path, standby: int
) -> None:
    pool = begin(configured(models, standby))
    first = pool.ensure("m").server
    assert kept(first).tokens == 0
    answers = [ask(first, question) for question in ("Which is the first?", "And the last?")]
    assert first.log_path
    (report,) = (Path(first.log_path).parents[2] / "work").glob(f"*/{REPORT}")
    assert 2 * len(SYSTEM) < struct.unpack(REPORT_FORMAT, report.read_bytes())[1] < UNKNOWN
    pool.evict("m")
    second = pool.ensure("m").server
    assert kept(second).tokens > len(SYSTEM)
    assert kept(second).disk_bytes > 0
    # The second time to the letter, which the runtime alone would compute again.
    again = [ask(second, question) for question in ("Which is the first?", "And the last?")]
    assert again == answers
    assert await_reuse(pool) > 2 * len(SYSTEM)
    pool.evict("m")
    without = begin(configured(models, standby, "prompt_cache = false"))
    fresh = without.ensure("m").server
    assert fresh.prompt_cache is None
    assert [
        ask(fresh, question) for question in ("Which is the first?", "And the last?")
    ] == answers


def test_a_killed_server_harms_nothing_and_costs_only_its_own_prompts(
    begin: Begin, models: Path
) -> None:
    pool = begin(configured(models))
    ask(pool.ensure("m").server)
    pool.evict("m")
    killed = pool.ensure("m").server
    before = kept(killed)
    ask(killed, "Something that is lost with it?")
    os.kill(killed.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(killed.pid)], timeout=60)
    while pool.list()[0].state is not ServerState.FAILED:
        pass
    after = kept(pool.ensure("m").server)
    assert (after.tokens, after.disk_bytes) == (before.tokens, before.disk_bytes)


def test_prompts_outlive_the_service(begin: Begin, models: Path) -> None:
    pool = begin(configured(models))
    ask(pool.ensure("m").server)
    # The next service takes over and leaves the server running; then it is stopped with it.
    second = begin(configured(models))
    assert kept(second.ensure("m").server).tokens == 0
    second.evict("m")
    assert kept(second.ensure("m").server).tokens > len(SYSTEM)


def test_prompts_outlive_a_shutdown(begin: Begin, models: Path, tmp_path: Path) -> None:
    config = tmp_path / "first.toml"
    config.write_text(configured(models))
    arguments = ["--config", str(config)]
    with running(tmp_path / "state", arguments=arguments, wrapper=PATIENT) as service:
        with PoolClient.connect(service.address) as pool:
            ask(pool.ensure("m").server)
        service.process.terminate()
        service.process.wait()
    again = begin(configured(models))
    assert kept(again.ensure("m").server).tokens > len(SYSTEM)


def test_other_settings_begin_anew_and_leave_nothing(
    begin: Begin, models: Path, tmp_path: Path
) -> None:
    pool = begin(configured(models))
    ask(pool.ensure("m").server)
    pool.evict("m")
    (old,) = (tmp_path / "state" / "prompts").glob("*/*")
    changed = begin(configured(models, more="arguments = ['--max-tokens', '99']"))
    assert kept(changed.ensure("m").server).tokens == 0
    assert not old.exists()


def test_nothing_is_kept_of_a_model_that_is_to_keep_nothing(
    begin: Begin, models: Path, tmp_path: Path
) -> None:
    batched = "prompt_cache = false\narguments = ['--continuous-batching']"
    pool = begin(configured(models, more=batched))
    server = pool.ensure("m").server
    assert server.prompt_cache is None
    ask(server)
    pool.evict("m")
    assert not list((tmp_path / "state").glob("prompts/*/*"))


def test_prompts_of_a_multimodal_model_are_kept_as_well(begin: Begin, models: Path) -> None:
    pool = begin(f"[service]\nstandby = 0\n[models.v]\nruntime_model = '{models / 'vlm'}'\n")
    first = pool.ensure("v").server
    answer = ask(first)
    pool.evict("v")
    second = pool.ensure("v").server
    assert kept(second).tokens > len(SYSTEM)
    assert ask(second) == answer


BOUND = 80 * 1024**2


@pytest.mark.long
def test_fifty_models_never_take_more_of_the_disk_than_they_may(
    begin: Begin, models: Path, tmp_path: Path
) -> None:
    sections = "".join(
        f"[models.m{number}]\nruntime_model = '{models / 'llama'}'\n" for number in range(50)
    )
    service = f"[service]\nstandby = 3\nprompt_cache_total = {BOUND}\n"
    pool = begin(f"{service}[defaults]\nprompt_cache = '16 MiB'\n{sections}")
    usage = Usage(tmp_path / "state")

    def use(number: int) -> int:
        name = f"m{number % 50}"
        server = pool.ensure(name).server
        for question in range(4):
            # Entries of several hundred kilobytes, of which none is the beginning of another.
            ask(server, f"{question} {name} " + "and then? " * 60)
        evict = threading.Thread(target=pool.evict, args=(name,))
        evict.start()
        while evict.is_alive():
            usage.look()
        return kept(server).tokens

    with ThreadPoolExecutor(3) as users:
        # Each model once, and the last ones again, whose prompts may still be there.
        found = list(users.map(use, [*range(50), *range(45, 35, -1)]))
    assert usage.most <= BOUND
    assert usage.most > BOUND / 4
    assert not any(found[:50])
    assert any(found[50:])


class Usage:
    """The most bytes that were seen of prompts below a state directory, written or kept."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self.most = 0

    def look(self) -> None:
        """Add up what is there now; a file with several names counts once."""
        sizes: dict[int, int] = {}
        for directory, _, names in os.walk(self._state_dir):
            for path in (Path(directory, name) for name in names):
                with suppress(FileNotFoundError):
                    status = path.lstat()
                    if S_ISREG(status.st_mode) and path.suffix in (".safetensors", ".bin"):
                        sizes[status.st_ino] = status.st_size
        self.most = max(self.most, sum(sizes.values()))
