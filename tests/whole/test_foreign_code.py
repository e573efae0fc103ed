"""The doors by which code of a model gets into the real libraries, each tried and found closed.

Each is tried with trust first: one that lets nothing in even then has moved, and has to be
found again.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service.adapters.process.launch import SERVER_CHILD
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm

pytestmark = pytest.mark.whole

MODULE = """
import pathlib
pathlib.Path({ran!r}).touch()
from transformers import PreTrainedTokenizerFast, ProcessorMixin
class Own(PreTrainedTokenizerFast): pass
class OwnProcessor(ProcessorMixin): pass
raise SystemExit("it ran")
"""


def said(file: Path, **more: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | more))


def model_file(model: Path) -> None:
    said(model / "config.json", model_file="own.py")


def tokenizer(model: Path) -> None:
    said(model / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})
    said(model / "config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})


def processor(model: Path) -> None:
    for name in ("processor_config.json", "preprocessor_config.json"):
        said(model / name, auto_map={"AutoProcessor": "own.OwnProcessor"})
    said(model / "config.json", auto_map={"AutoProcessor": "own.OwnProcessor"})


DOORS = {
    "mlx_lm model_file": (model_file, "import mlx_lm; mlx_lm.load({model!r})"),
    "mlx_lm tokenizer": (
        tokenizer,
        "import mlx_lm; mlx_lm.load({model!r}, tokenizer_config={{'trust_remote_code': True}})",
    ),
    "mlx_vlm model_file": (model_file, "import mlx_vlm; mlx_vlm.load({model!r})"),
    "transformers processor": (
        processor,
        "import transformers as t; "  # noqa: ISC004
        "t.AutoProcessor.from_pretrained({model!r}, trust_remote_code=True)",
    ),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_that_is_there_is_closed(tmp_path: Path, door: str) -> None:
    bring, lines = DOORS[door]
    model, ran = tmp_path / "model", tmp_path / "ran"
    (write_tiny_vlm if "vlm" in door or "processor" in door else write_tiny_llama)(model)
    (model / "own.py").write_text(MODULE.format(ran=str(ran)))
    bring(model)
    program = tmp_path / "vllm-mlx"
    program.write_text(lines.format(model=str(model)))

    def load(*arguments: str) -> str:
        environment = os.environ | {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, str(SERVER_CHILD), str(program), "serve", str(model), *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.stderr

    trusted = load("--trust-remote-code")
    assert ran.exists(), f"the door has moved: {trusted}"
    ran.unlink()
    refused = load()
    assert not ran.exists()
    assert "CodeNotTrustedError" in refused, refused
