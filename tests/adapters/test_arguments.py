"""Claims about which arguments a vllm-mlx is given."""

import pytest

from pool_service.adapters.arguments import argument_flaw, parse_options

HELP = """usage: vllm-mlx serve [-h] [--max-tokens MAX_TOKENS] [--mllm]
                      [--tool-call-parser {auto,qwen3.5}] [--trust-remote-code]
                      [--port PORT] [--api-key API_KEY] [--names NAME [NAME ...]]
                      [--timeout TIMEOUT]
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
    }


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
