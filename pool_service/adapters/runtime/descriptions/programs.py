"""The programs that the pool knows by name, besides vllm-mlx (`vllm_mlx.py`).

Each fact is from the program's documentation or source, or was seen in the version that its
`source` names. A count is taken as complete (`counts_all`) only where a request that it misses for
an instant is finished all the same, since the program drains.
"""

from collections.abc import Sequence
from typing import Final

from pool_service.adapters.runtime.descriptions.description import (
    MODEL,
    PORT,
    PYTHON,
    Option,
    ProgramDescription,
)
from pool_service.adapters.runtime.launch_plan import HOST
from pool_service.core.activity import UseSignals

_OWN_PORT: Final = "the pool chooses it"
_OWN_HOST: Final = (
    "servers listen where fleet.advertise says, else on loopback; set it in the runtime's command"
)
_OWN_NAME: Final = "set served_model_name of the runtime"
_SHOWN_KEY: Final = "every user of the machine could read the key; see server_keys of the runtime"
_GUARDED_HEALTH: Final = "the pool asks its health path without a key"

LLAMA_SERVER: Final = ProgramDescription(
    name="llama-server",
    starts=(("llama-server",),),
    options=(
        Option(
            ("-m", "--model", "-mu", "--model-url", "-hfr", "--hf-repo", "-dr", "--docker-repo"),
            MODEL,
            hub_name="-hf",
        ),
        Option(("--host",), HOST),
        Option(("--port",), PORT),
        Option(("--metrics",)),
    ),
    served_names=("--alias", "-a"),
    refused={
        "--port": _OWN_PORT,
        "--host": _OWN_HOST,
        "--alias": _OWN_NAME,
        "-a": _OWN_NAME,
        "--api-key": _SHOWN_KEY,
    },
    # It reads a prompt, or fetches an image, before it counts the request; so not `counts_all`.
    use=UseSignals(
        path="/metrics",
        gauges=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
        counters=("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total"),
    ),
    key_variable="LLAMA_API_KEY",
    key_options=("--api-key", "--api-key-file"),
    maps_weights=True,
    source="tools/server of llama.cpp; run in build 11434",
)

VLLM: Final = ProgramDescription(
    name="vllm serve",
    starts=(("vllm", "serve"),),
    options=(
        Option(("", "--model", "--model-tag"), MODEL),
        Option(("--host", "--uds"), HOST),
        Option(("--port", "--uds"), PORT),
    ),
    served_names=("--served-model-name",),
    refused={
        "--port": _OWN_PORT,
        "--host": _OWN_HOST,
        "--uds": _OWN_PORT,
        "--served-model-name": _OWN_NAME,
        "--api-key": _SHOWN_KEY,
    },
    # The engine counts; a request whose prompt is being prepared before it is not there yet.
    use=UseSignals(
        path="/metrics",
        gauges=("vllm:num_requests_running", "vllm:num_requests_waiting"),
        counters=("vllm:prompt_tokens_total", "vllm:generation_tokens_total"),
    ),
    key_variable="VLLM_API_KEY",
    key_options=("--api-key",),
    source="vllm/entrypoints, vllm/envs.py and vllm/v1/metrics of vLLM; not run",
)

MLX_LM: Final = ProgramDescription(
    name="mlx_lm.server",
    starts=(
        ("mlx_lm.server",),
        (PYTHON, "-m", "mlx_lm.server"),
        (PYTHON, "-m", "mlx_lm", "server"),
    ),
    options=(
        Option(("--model",), MODEL),
        Option(("--host",), HOST),
        Option(("--port",), PORT),
    ),
    refused={"--port": _OWN_PORT, "--host": _OWN_HOST},
    # Its health path answers before it has a model, and without one.
    ready_path="/v1/completions",
    ready_body='{"model": "{runtime_model}", "prompt": "a", "max_tokens": 1}',
    source="run in 0.31.3",
)

MLX_VLM: Final = ProgramDescription(
    name="mlx_vlm.server",
    starts=(
        ("mlx_vlm.server",),
        (PYTHON, "-m", "mlx_vlm.server"),
        (PYTHON, "-m", "mlx_vlm", "server"),
    ),
    options=(
        Option(("--model",), MODEL),
        # By default it listens on all addresses.
        Option(("--host",), HOST),
        Option(("--port",), PORT),
    ),
    refused={"--port": _OWN_PORT, "--host": _OWN_HOST, "--api-key": _GUARDED_HEALTH},
    use=UseSignals(
        path="/metrics",
        gauges=("/summary/in_flight",),
        counters=("/summary/requests_started",),
        counts_all=True,
    ),
    drains=True,
    source="run in 0.7.10",
)

MLX_OPENAI: Final = ProgramDescription(
    name="mlx-openai-server",
    starts=(("mlx-openai-server", "launch"),),
    options=(
        Option(("--model-path", "--config"), MODEL),
        Option(("--model-type", "--config"), "lm"),
        Option(("--host", "--config"), HOST),
        Option(("--port", "--config"), PORT),
        # Its file would be in the working directory, which goes with the server.
        Option(("--no-log-file", "--log-file", "--config")),
    ),
    refused={"--port": _OWN_PORT, "--host": _OWN_HOST, "--config": "a server has one model"},
    drains=True,
    source="app/cli.py of 1.8.1; run in 1.6.3",
)

LLAMA_CPP_PYTHON: Final = ProgramDescription(
    name="llama_cpp.server",
    starts=((PYTHON, "-m", "llama_cpp.server"),),
    options=(
        Option(("--model",), MODEL),
        Option(("--host",), HOST),
        Option(("--port",), PORT),
        # Else a request that waits ends the stream before it, as if that were complete.
        Option(("--interrupt_requests",), "false"),
    ),
    served_names=("--model_alias",),
    refused={
        "--port": _OWN_PORT,
        "--host": _OWN_HOST,
        "--model_alias": _OWN_NAME,
        "--api_key": _SHOWN_KEY,
    },
    # /v1/models waits for the model, which is loaded before the server listens.
    health_path="/docs",
    maps_weights=True,
    source="run in 0.3.36",
)

WHISPER_SERVER: Final = ProgramDescription(
    name="whisper-server",
    starts=(("whisper-server",),),
    options=(
        Option(("-m", "--model"), MODEL),
        Option(("--host",), HOST),
        Option(("--port",), PORT),
    ),
    refused={"--port": _OWN_PORT, "--host": _OWN_HOST},
    source="examples/server/server.cpp of whisper.cpp; not run",
)

TEXT_EMBEDDINGS: Final = ProgramDescription(
    name="text-embeddings-router",
    starts=(("text-embeddings-router",),),
    options=(
        Option(("--model-id",), MODEL),
        # By default it listens on all addresses.
        Option(("--hostname",), HOST),
        Option(("--port", "-p"), PORT),
    ),
    served_names=("--served-model-name",),
    refused={
        "--port": _OWN_PORT,
        "-p": _OWN_PORT,
        "--hostname": _OWN_HOST,
        "--served-model-name": _OWN_NAME,
        "--api-key": _SHOWN_KEY,
    },
    source="docs/source/en/cli_arguments.md of text-embeddings-inference; not run",
)

PROGRAMS: Final = (
    LLAMA_SERVER,
    VLLM,
    MLX_LM,
    MLX_VLM,
    MLX_OPENAI,
    LLAMA_CPP_PYTHON,
    WHISPER_SERVER,
    TEXT_EMBEDDINGS,
)
"""The descriptions, by which a command is recognised at its beginning."""


def description_of(command: Sequence[str]) -> ProgramDescription | None:
    """Return the description of the program that a command starts; None if it is not known."""
    return next((one for one in PROGRAMS if one.start_of(command)), None)
