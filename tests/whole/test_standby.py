"""Starts from a process that waits, with the real vllm-mlx: as by the plain command, but sooner."""

import json
import os
import signal
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from pool_service_client import ExitCause, ModelRejected, PoolClient, Server
from tests.idle import await_idle
from tests.whole.patient import PATIENT
from tests.whole.runs import headers
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm
from tools.demo.service import running

pytestmark = pytest.mark.whole

SECRET = "what-nobody-else-may-read"

Begin = Callable[[str], PoolClient]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_tiny_llama(directory / "llama")
    write_tiny_vlm(directory / "vlm")
    return directory


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Starts a service with this configuration."""
    with ExitStack() as stack:

        def one(config: str) -> PoolClient:
            path = tmp_path / "config.toml"
            path.write_text(config)
            arguments = ["--config", str(path)]
            service = stack.enter_context(
                running(tmp_path / "state", arguments=arguments, wrapper=PATIENT)
            )
            return stack.enter_context(PoolClient.connect(service.address))

        yield one


def standing_by(pool: PoolClient) -> None:
    """Return when a process waits that has nothing left to do ahead."""
    while not next(pool.pages()).totals.standbys:
        pass


def chat(server: Server) -> Any:  # noqa: ANN401  # of any JSON
    messages = [{"role": "user", "content": "hello"}]
    body: dict[str, Any] = {"model": server.served_model_name, "messages": messages}
    body |= {"max_tokens": 12, "temperature": 0}
    request = urllib.request.Request(
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        headers(server),
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        return json.load(response)["choices"][0]["message"]["content"]


def is_plain(server: Server) -> bool:
    return "serve" in psutil.Process(server.pid).cmdline()


@pytest.mark.parametrize("prompt_cache", ["false", "'1 GiB'"], ids=["simple", "batched"])
def test_what_stood_by_answers_as_the_plain_command_does(
    begin: Begin, models: Path, prompt_cache: str
) -> None:
    pool = begin(f"[defaults]\nprompt_cache = {prompt_cache}\n[service]\nstandby = 1\n")
    standing_by(pool)
    ahead = pool.ensure("ahead", runtime_model=str(models / "llama")).server
    assert not is_plain(ahead)
    said = chat(ahead)
    await_idle(ahead.endpoint)
    pool.evict("ahead")
    plain = begin_plain(begin, prompt_cache).ensure("plain", runtime_model=str(models / "llama"))
    assert is_plain(plain.server)
    assert said == chat(plain.server)


def begin_plain(begin: Begin, prompt_cache: str) -> PoolClient:
    return begin(
        f"[defaults]\nprompt_cache = {prompt_cache}\n[service]\nstandby = 0\nreplace = true\n"
    )


def test_a_multimodal_model_starts_from_what_stood_by(begin: Begin, models: Path) -> None:
    pool = begin("")
    standing_by(pool)
    server = pool.ensure("vlm", runtime_model=str(models / "vlm")).server
    assert not is_plain(server)
    with urllib.request.urlopen(f"{server.endpoint}/health") as response:
        assert json.load(response)["model_type"] == "mllm"


def test_the_arguments_of_a_standby_are_not_in_the_process_table(
    begin: Begin, models: Path
) -> None:
    template = json.dumps({"password": SECRET})
    told = ["--default-chat-template-kwargs", template]
    pool = begin(f"[defaults]\narguments = {json.dumps(told)}\n")
    standing_by(pool)
    server = pool.ensure("private", runtime_model=str(models / "llama")).server
    assert isinstance(chat(server), str)
    process = psutil.Process(server.pid)
    assert SECRET not in " ".join(process.cmdline())
    assert SECRET not in " ".join(process.environ().values())


def test_a_refused_model_is_reported_with_its_reason(
    begin: Begin, models: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "strange"
    strange.mkdir()
    for file in (models / "llama").iterdir():
        (strange / file.name).write_bytes(file.read_bytes())
    config = json.loads((strange / "config.json").read_text()) | {"model_type": "perceptron"}
    (strange / "config.json").write_text(json.dumps(config))
    pool = begin("")
    standing_by(pool)
    with pytest.raises(ModelRejected, match="perceptron") as raised:
        pool.ensure("strange", runtime_model=str(strange))
    assert raised.value.last_lines


def test_a_service_that_was_killed_leaves_its_server_and_nothing_that_stands_by(
    tmp_path: Path, models: Path
) -> None:
    state = tmp_path / "state"
    with running(state) as killed, PoolClient.connect(killed.address) as pool:
        standing_by(pool)
        before = pool.ensure("llama", runtime_model=str(models / "llama")).server
        standing_by(pool)
        waiting = [
            child
            for child in psutil.Process(killed.process.pid).children()
            if child.pid != before.pid and "standby_child" in " ".join(child.cmdline())
        ]
        assert waiting
        killed.process.kill()
        killed.process.wait()
        psutil.wait_procs(waiting, timeout=60)
        assert not any(child.is_running() for child in waiting)
    with running(state) as heir, PoolClient.connect(heir.address) as pool:
        after = pool.ensure("llama").server
        assert (after.pid, after.endpoint) == (before.pid, before.endpoint)
        assert isinstance(chat(after), str)
        await_idle(after.endpoint)
        (evicted,) = pool.evict("llama")
        assert not evicted.killed


@pytest.mark.parametrize("prompt_cache", ["false", "'1 GiB'"], ids=["simple", "batched"])
@pytest.mark.parametrize("standby", [0, 1], ids=["plain command", "standby"])
def test_evicted_while_it_loads_it_ends_at_once(
    begin: Begin, models: Path, tmp_path: Path, prompt_cache: str, standby: int
) -> None:
    endless = tmp_path / "endless"
    endless.mkdir()
    for file in (models / "llama").iterdir():
        if file.suffix != ".safetensors":
            (endless / file.name).write_bytes(file.read_bytes())
    os.mkfifo(endless / "model.safetensors")  # nobody writes into it
    pool = begin(f"[service]\nstandby = {standby}\n[defaults]\nprompt_cache = {prompt_cache}\n")
    if standby:
        standing_by(pool)
    with pool.hold("endless", runtime_model=str(endless)) as hold:
        while not (server := next(hold)).pid:
            pass
        while "Waiting for application startup" not in Path(server.log_path).read_text():
            pass
        (evicted,) = pool.evict("endless", force=True)
    end = evicted.server.last_exit
    assert end is not None
    assert not evicted.killed
    assert (end.cause, end.signal) == (ExitCause.EVICTED, signal.SIGTERM)
