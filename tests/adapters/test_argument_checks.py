"""Claims about which arguments a vllm-mlx is given."""

import sys
from pathlib import Path

import pytest
import structlog

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.argument_checks import (
    REFUSED_OPTIONS,
    argument_flaw,
    options_of,
    parse_options,
)

HELP = """usage: vllm-mlx serve [-h] [--max-tokens MAX_TOKENS] [--mllm]
                      [--tool-call-parser {auto,qwen3.5}] [--trust-remote-code]
                      [--port PORT] [--api-key API_KEY] [--names NAME [NAME ...]]
                      [--timeout TIMEOUT] [--lazy-load-model] [--offline]
                      model

positional arguments:
  model                 The model, as [--described-here]

options:
  --mllm                Load it as one
"""
OPTIONS = parse_options(HELP)


def test_the_usage_tells_the_names_and_which_take_a_value() -> None:
    assert OPTIONS == {
        "-h": False,
        "--max-tokens": True,
        "--mllm": False,
        "--tool-call-parser": True,
        "--trust-remote-code": False,
        "--port": True,
        "--api-key": True,
        "--names": True,
        "--timeout": True,
        "--lazy-load-model": False,
        "--offline": False,
    }


@pytest.mark.parametrize("more", [" word" * 10_000, " [word]" * 10_000, " [-h" * 10_000])
def test_a_usage_that_is_cut_off_is_read_in_no_time(more: str) -> None:
    assert parse_options(f"usage: run [--port PORT] [--names{more}") == {"--port": True}


@pytest.mark.parametrize("said", ["", "command not found", "Traceback\n [--x]"])
def test_what_is_no_usage_has_no_options(said: str) -> None:
    assert parse_options(said) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--mllm",),
        ("--max-tokens", "5", "--mllm"),
        ("--max-tokens=5",),
        ("--max-tokens", "-1"),
    ],
)
def test_what_it_knows_by_its_exact_name_is_given(arguments: tuple[str, ...]) -> None:
    assert argument_flaw(arguments, OPTIONS) is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--trust",), "did you mean --trust-remote-code?"),
        (("--max-token", "5"), "did you mean --max-tokens?"),
        (("--nonsense",), "no option of vllm-mlx serve"),
        (("--port", "5"), "the pool chooses it"),
        (("--api-key=x",), "every user of the machine"),
        (("--trust-remote-code",), "trust_remote_code = true"),
        (("--lazy-load-model",), "before its model is loaded"),
        (("--offline",), "do not ask the hub anyway"),
        (("-h",), "instead of serving"),
        (("other/model",), "belongs to no option"),
        (("--mllm", "other/model"), "belongs to no option"),
        (("--",), "belongs to no option"),
        (("--max-tokens",), "lacks its value"),
        (("--max-tokens", "--mllm"), "lacks its value"),
        (("--mllm=yes",), "takes no value"),
    ],
)
def test_anything_else_is_refused_with_its_reason(arguments: tuple[str, ...], told: str) -> None:
    assert told in (argument_flaw(arguments, OPTIONS) or "")


@pytest.mark.parametrize("name", ["--lora", "--prot", "--hots", "--api-keys-file"])
def test_no_option_is_hinted_at_that_would_be_refused_in_its_turn(name: str) -> None:
    assert argument_flaw((name, "x"), OPTIONS) == f"{name} is no option of vllm-mlx serve"


async def test_a_program_that_does_not_tell_its_options_is_logged(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        assert await options_of(tmp_path / "none") == {}
    assert [entry["program"] for entry in logged] == [str(tmp_path / "none")]


@pytest.mark.whole
async def test_the_real_one_knows_what_it_is_told_and_what_is_refused() -> None:
    options = await options_of(Path(sys.executable).with_name(vllm_mlx.PROGRAM))
    told = {vllm_mlx.SERVED_MODEL_NAME: True, vllm_mlx.TRUST: False}
    told |= {name: True for name, _ in vllm_mlx.OPTIONS}
    assert told.items() <= options.items()
    assert REFUSED_OPTIONS.keys() <= options.keys()
    assert set(vllm_mlx.NOT_WITH_AUTO_UNLOAD) <= options.keys()
    assert options["--tool-call-parser"]
    assert not options["--continuous-batching"]
