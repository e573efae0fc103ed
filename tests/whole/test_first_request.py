"""What a standby does ahead of a start, with the real vllm-mlx, and that nothing differs by it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pool_service.adapters.children import tokenizer_ahead
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.standby.process import StandbySpec, launch
from pool_service_client import PoolClient
from tests.idle import await_idle
from tests.whole.patient import PATIENT
from tests.whole.runs import ask, headers
from tools.demo.checkpoints import write_tiny_llama
from tools.demo.service import running
from tools.demo.smollm2 import prepare_smollm2

pytestmark = pytest.mark.whole

TOKENIZERS = """
import importlib.util, json, sys, threading
from pathlib import Path
import mlx_lm
from mlx_lm import tokenizer_utils, utils
from vllm_mlx.utils.tokenizer import load_model_with_fallback

threads = []
load = utils._load_tokenizer
def noted(*arguments, **named):
    threads.append(threading.current_thread() is threading.main_thread())
    return load(*arguments, **named)
utils._load_tokenizer = noted

def loaded(model):
    threads.clear()
    _, tokenizer = load_model_with_fallback(model, {"trust_remote_code": False})
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    return dict(
        prompt=tokenizer.apply_chat_template(messages, add_generation_prompt=True),
        words=tokenizer.encode("<|im_start|>H\\u00e9llo, w\\u00f6rld\\n 12345<|im_end|>"),
        template=tokenizer.chat_template,
        eos=sorted(tokenizer.eos_token_ids),
        added=sorted(tokenizer.get_added_vocab().items()),
        special=sorted(tokenizer.all_special_tokens),
        options={name: str(value) for name, value in tokenizer.init_kwargs.items()},
        detokenizer=type(tokenizer.detokenizer).__name__,
    ), list(threads)

spec = importlib.util.spec_from_file_location("tokenizer_ahead", sys.argv[1])
ahead = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ahead)
plain, in_main = loaded(sys.argv[2])
ahead.load_tokenizers_ahead(["vllm-mlx", "serve"])
parallel, in_thread = loaded(sys.argv[2])
print(json.dumps([plain, parallel, in_main, in_thread]))
"""


def run(program: str, *arguments: str) -> Any:  # noqa: ANN401  # of any JSON
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["tiny", "SmolLM2"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "SmolLM2":
        return prepare_smollm2(Path(".cache/models"), print).absolute()
    write_tiny_llama(tmp_path / "llama")
    return tmp_path / "llama"


def test_the_tokenizer_loaded_beside_the_weights_is_the_same(model: Path) -> None:
    plain, parallel, in_main, in_thread = run(TOKENIZERS, tokenizer_ahead.__file__, str(model))
    assert in_main == [True], "mlx_lm.load calls another function than this test counts"
    assert in_thread == [False], "the result of the thread is not taken: the arguments differ"
    assert parallel == plain
    assert parallel["prompt"]


IMPORTED = re.compile(r"^import time: +\d+ \| +\d+ \| +(\S+)$", re.MULTILINE)
"""A line of `python -X importtime`."""

LISTENS = re.compile(r"Uvicorn running on (\S+)")


@pytest.mark.parametrize("arguments", [[], ["--continuous-batching"]], ids=["simple", "batched"])
def test_a_start_and_its_first_request_import_nothing_that_a_standby_has_not(
    llama: Path, tmp_path: Path, arguments: list[str]
) -> None:
    program = str(Path(sys.executable).with_name("vllm-mlx"))
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "HF_HUB_OFFLINE": "1", "PATH": os.defpath}
    standby = launch(StandbySpec(program, tuple(environment.items())), tmp_path)
    assert standby is not None
    log = tmp_path / "log"
    try:
        while not standby.is_warm:
            standby.receive()
        argv = [program, "serve", str(llama), "--port", "0", vllm_mlx.METRICS, *arguments]
        with log.open("w") as output:
            assert standby.send_arguments(tuple(argv), output.fileno(), timeout=100)
        standby.channel.settimeout(None)
        while not standby.is_ready:
            standby.receive()
        while not (listens := LISTENS.search(log.read_text())):
            pass
        message = {"role": "user", "content": "hello"}
        body = {"model": str(llama), "messages": [message], "max_tokens": 4}
        status, _ = ask(listens[1], "/v1/chat/completions", body)
        assert status == 200
    finally:
        standby.end()
    # Of the first the package is imported, and the second may not be installed.
    left = {"fastapi.telemetry._runtime", "uvloop"}
    assert set(IMPORTED.findall(log.read_text())) <= left


PERSONA = "You are the keeper of a lighthouse, and you answer in one short sentence each time. " * 4


def test_warm_prompts_are_computed_before_a_server_is_ready_and_are_reused(
    llama: Path, tmp_path: Path
) -> None:
    models = json.dumps(str(llama))
    config = tmp_path / "config.toml"
    config.write_text(f"[models.m]\nruntime_model = {models}\nwarm_prompts = [{PERSONA!r}]\n")
    arguments = ["--config", str(config)]
    with (
        running(tmp_path / "state", arguments=arguments, wrapper=PATIENT) as service,
        PoolClient.connect(service.address) as pool,
    ):
        for computed in ("computed", "kept"):
            server = pool.ensure("m").server
            assert "keeper" not in " ".join(psutil.Process(server.pid).cmdline())
            log = Path(server.log_path).read_text()
            assert "Warm-up done (strict-prefix): 1 completed, 0 skipped" in log
            hit = f"cached={tokens_of(log) - 1} remaining=1 "
            assert (hit in log) == (computed == "kept"), log
            messages = [
                {"role": "system", "content": PERSONA},
                {"role": "user", "content": computed},
            ]
            body = {"model": server.served_model_name, "messages": messages, "max_tokens": 4}
            sent = headers(server)
            assert ask(server.endpoint, "/v1/chat/completions", body, sent)[0] == 200
            cached = CACHED.findall(Path(server.log_path).read_text().removeprefix(log))
            assert int(cached[0]) > tokens_of(log) / 2
            await_idle(server.endpoint)
            pool.evict("m")


CACHED = re.compile(r"cached=(\d+) remaining=")
"""A line of vllm-mlx for each request whose beginning was computed before."""


def tokens_of(log: str) -> int:
    """Return the number of tokens of the warm prompts."""
    found = re.search(r"(\d+) prompt tokens in", log)
    assert found, log
    return int(found[1])
