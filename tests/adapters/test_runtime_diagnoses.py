"""The true last lines of vllm-mlx 0.6.0 by cause; the contract test runs it for some of them."""

import pytest

from pool_service.adapters.runtime import diagnosis, vllm_mlx
from pool_service.core.types import Diagnosis

REJECTED = Diagnosis.MODEL_REJECTED
UNUSABLE = Diagnosis.RUNTIME_UNUSABLE
CRASHED = Diagnosis.CRASHED

FAILED = "ERROR:    Application startup failed. Exiting."
FRAME = '  File "/x/vllm_mlx/utils/tokenizer.py", line 178, in load_model_with_fallback'
DOWNLOAD = "RuntimeError: Failed to download 'org/none' after 1 attempts. Last error: "


@pytest.mark.parametrize(
    ("code", "lines", "diagnosis", "words"),
    [
        (3, [FRAME, "ValueError: Model type foo not supported.", FAILED], REJECTED, "'foo'"),
        (3, ["FileNotFoundError: No safetensors found in /m", FAILED], REJECTED, "no weights"),
        (
            3,
            ["RuntimeError: [load_safetensors] Invalid json header length file /m", FAILED],
            REJECTED,
            "damaged",
        ),
        (
            1,
            ["Error: Cannot determine whether '/m' is a multimodal model: its resolved config"],
            REJECTED,
            "config.json",
        ),
        (3, ["model.layers.2.self_attn.v_proj.weight.", FAILED], REJECTED, "do not fit"),
        (3, ["KeyError: 'model_type'", FAILED], REJECTED, "model_type"),
        (
            3,
            [FRAME, "ValueError: Couldn't instantiate the backend tokenizer from one of:", FAILED],
            REJECTED,
            "tokenizer",
        ),
        (3, [FRAME, "TypeError: 'NoneType' object is not iterable", FAILED], REJECTED, "failed"),
        (1, [DOWNLOAD + "Got: ConnectError: [Errno -2]"], REJECTED, "could not be reached"),
        (1, [DOWNLOAD + "404", "Repository Not Found for url: x."], REJECTED, "no such model"),
        (1, [DOWNLOAD + "403", "Cannot access gated repo for url x."], REJECTED, "HF_TOKEN"),
        (1, [DOWNLOAD + "Got: Server error '503 Service Unavailable'"], CRASHED, "try again"),
        (2, ["vllm-mlx: error: unrecognized arguments: --x"], UNUSABLE, "--x"),
        (1, ["Error: --max-tokens must be at least 1"], UNUSABLE, "--max-tokens"),
        (1, ["ModuleNotFoundError: No module named 'mlx'"], UNUSABLE, "install"),
        (
            3,
            ["WARNING:  You must pass the application as an import string to enable 'reload'."],
            UNUSABLE,
            "WEB_CONCURRENCY",
        ),
        (1, ["ValueError: not allowed to raise maximum limit"], UNUSABLE, "4096"),
        (1, ["OSError: [Errno 24] Too many open files: '/m'"], CRASHED, "descriptors"),
        (1, ["RuntimeError: can't start new thread"], CRASHED, "pids.max"),
        (1, ["OSError: [Errno 28] No space left on device"], CRASHED, "disk is full"),
        (
            3,
            ["ERROR:    [Errno 98] while attempting to bind on address: address already in use"],
            Diagnosis.PORT_TAKEN,
            "taken",
        ),
    ],
)
def test_the_last_lines_of_vllm_mlx_tell_the_cause(
    code: int, lines: list[str], diagnosis: Diagnosis, words: str
) -> None:
    found, message = vllm_mlx.diagnose(code, None, tuple(lines))
    assert found is diagnosis
    assert words in message


def test_the_message_says_what_why_and_by_which_line() -> None:
    lines = (FRAME, "ValueError: Model type foo not supported.", FAILED)
    assert vllm_mlx.diagnose(3, None, lines)[1] == (
        "vllm-mlx could not load the model: architecture 'foo' is not supported "
        "(ValueError: Model type foo not supported.)."
    )


@pytest.mark.parametrize(
    ("frame", "option"),
    [
        ('  File "/x/vllm_mlx/embedding.py", line 91, in load', "--embedding-model"),
        ('  File "/x/vllm_mlx/rerank.py", line 178, in load', "--rerank-model"),
        ('  File "/x/vllm_mlx/mcp/config.py", line 68, in load_mcp_config', "--mcp-config"),
        ('  File "/x/vllm_mlx/server.py", line 7801, in init_mcp', "--mcp-config"),
    ],
)
def test_what_an_option_names_is_no_fault_of_the_model(frame: str, option: str) -> None:
    lines = (frame, "    load()", "ValueError: Model type foo not supported.", FAILED)
    found, message = vllm_mlx.diagnose(3, None, lines)
    assert found is UNUSABLE
    assert message == (
        f"vllm-mlx cannot run: what {option} names cannot be loaded: architecture 'foo' is not "
        "supported (ValueError: Model type foo not supported.)."
    )


def test_a_fault_of_the_port_is_none_of_what_an_option_names() -> None:
    lines = (
        '  File "/x/vllm_mlx/mcp/client.py", line 1, in x',
        "[Errno 98] address already in use",
    )
    assert vllm_mlx.diagnose(1, None, lines)[0] is Diagnosis.PORT_TAKEN


def test_an_abort_for_a_missing_tokenizer_is_the_models_fault() -> None:
    lines = ("ValueError: Couldn't instantiate the backend tokenizer from one of:",)
    assert vllm_mlx.diagnose(None, 6, lines)[0] is REJECTED


@pytest.mark.parametrize(
    "line",
    [
        "libc++abi: terminating [METAL] Command buffer execution failed: Insufficient Memory",
        "terminate called after throwing an instance of 'std::bad_alloc'",
    ],
)
def test_an_abort_for_want_of_memory_is_called_that(line: str) -> None:
    diagnosis, message = vllm_mlx.diagnose(None, 6, (line,))
    assert diagnosis is Diagnosis.OUT_OF_MEMORY
    assert "memory ran out" in message


def test_a_server_that_listened_is_never_a_refused_model() -> None:
    lines = ("INFO:     Uvicorn running on http://127.0.0.1:1", "ValueError: bad request body")
    assert vllm_mlx.diagnose(1, None, lines)[0] is CRASHED


def test_a_killed_server_is_a_crash_whatever_it_wrote_before() -> None:
    found, message = vllm_mlx.diagnose(None, 9, ("ValueError: Model type foo not supported.",))
    assert found is CRASHED
    assert "SIGKILL" in message
    assert "memory" in message


@pytest.mark.parametrize(("code", "signal"), [(0, None), (None, 15), (None, 11), (None, None)])
def test_an_end_that_nothing_explains_is_a_crash(code: int | None, signal: int | None) -> None:
    assert vllm_mlx.diagnose(code, signal, ())[0] is CRASHED


@pytest.mark.parametrize(
    ("code", "signal"), [(None, 15), (None, 2), (None, 1), (None, 9), (0, None)]
)
def test_an_old_error_is_no_cause_of_an_end_that_came_from_outside(
    code: int | None, signal: int | None
) -> None:
    lines = ("INFO:     Uvicorn running on http://127.0.0.1:1", "TypeError: presence_penalty")
    assert "TypeError" not in vllm_mlx.diagnose(code, signal, lines)[1]
    assert "TypeError" in vllm_mlx.diagnose(None, 11, lines)[1]


def test_a_plain_runtime_that_found_its_port_taken_says_so() -> None:
    lines = ("OSError: [Errno 48] Address already in use", "")
    assert diagnosis.diagnose(1, None, lines)[0] is Diagnosis.PORT_TAKEN


def test_a_plain_runtimes_crash_carries_its_last_line_in_bounds() -> None:
    found, message = diagnosis.diagnose(7, None, ("x" * 5000, "  "))
    assert found is CRASHED
    assert "code 7" in message
    assert len(message) < 500
