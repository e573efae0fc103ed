"""Programs that the pool knows: how their commands are recognised and completed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.access.server_keys import is_key
from pool_service.adapters.runtime.descriptions import programs
from pool_service.adapters.runtime.descriptions.description import ProgramDescription
from pool_service.adapters.runtime.descriptions.programs import PROGRAMS, description_of
from pool_service.adapters.runtime.launch_plan import option_value
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.core.activity import UseSignals
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.types import LaunchPlan, Settings

GGUF = Settings("/models/a.gguf")


def options(directory: Path, *command: str) -> RuntimeOptions:
    """Return the options of a program that is there, and never runs."""
    path = directory / command[0]
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return RuntimeOptions(directory, command=(str(path), *command[1:]))


async def plan_of(options: RuntimeOptions, settings: Settings = GGUF) -> LaunchPlan:
    return await CommandRuntime(options, inherited={}).prepare("m", settings)


def words(plan: LaunchPlan) -> list[str]:
    """Return the plan's command without the directory of its program, with "PORT" for the port."""
    return [Path(plan.argv[0]).name, *("PORT" if w == str(plan.port) else w for w in plan.argv[1:])]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["llama-server"], "llama-server"),
        (["/opt/llama/llama-server", "-m", "{runtime_model}"], "llama-server"),
        (["vllm"], "vllm serve"),
        (["vllm", "serve", "{runtime_model}"], "vllm serve"),
        (["mlx_lm.server"], "mlx_lm.server"),
        (["python", "-m", "mlx_lm", "server"], "mlx_lm.server"),
        (["/venv/bin/python3.11", "-m", "mlx_lm.server", "--model", "x"], "mlx_lm.server"),
        (["python3", "-m", "mlx_vlm.server"], "mlx_vlm.server"),
        (["mlx-openai-server"], "mlx-openai-server"),
        (["mlx-openai-server", "launch", "--model-type", "multimodal"], "mlx-openai-server"),
        (["python", "-m", "llama_cpp.server"], "llama_cpp.server"),
        (["whisper-server"], "whisper-server"),
        (["text-embeddings-router"], "text-embeddings-router"),
    ],
)
def test_a_program_is_known_by_the_words_that_start_it(command: list[str], name: str) -> None:
    found = description_of(command)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "command",
    [
        ["vllm-mlx", "serve"],
        ["vllm", "bench"],
        ["python"],
        ["python", "-m"],
        ["python", "server.py"],
        ["mlx-openai-server", "status"],
        ["my-llama-server"],
        ["pythonic", "-m", "llama_cpp.server"],
    ],
)
def test_another_program_is_not_taken_for_a_known_one(command: list[str]) -> None:
    assert description_of(command) is None


@pytest.mark.parametrize(
    ("command", "whole", "served"),
    [
        (
            ["llama-server"],
            "llama-server -m /models/a.gguf --host 127.0.0.1 --port PORT --metrics --alias m",
            "m",
        ),
        (
            ["vllm"],
            "vllm serve /models/a.gguf --host 127.0.0.1 --port PORT --served-model-name m",
            "m",
        ),
        (
            ["mlx_lm.server"],
            "mlx_lm.server --model /models/a.gguf --host 127.0.0.1 --port PORT",
            "/models/a.gguf",
        ),
        (
            ["mlx_vlm.server", "--max-tokens", "9"],
            "mlx_vlm.server --max-tokens 9 --model /models/a.gguf --host 127.0.0.1 --port PORT",
            "/models/a.gguf",
        ),
        (
            ["mlx-openai-server"],
            (
                "mlx-openai-server launch --model-path /models/a.gguf --model-type lm "
                "--host 127.0.0.1 --port PORT --no-log-file"
            ),
            "/models/a.gguf",
        ),
        (
            ["python", "-m", "llama_cpp.server"],
            (
                "python -m llama_cpp.server --model /models/a.gguf --host 127.0.0.1 --port PORT "
                "--interrupt_requests false --model_alias m"
            ),
            "m",
        ),
        (
            ["vllm", "serve", "--served-model-name", "{runtime_model}"],
            (
                "vllm serve /models/a.gguf --served-model-name /models/a.gguf --host 127.0.0.1 "
                "--port PORT"
            ),
            "/models/a.gguf",
        ),
        (
            ["vllm", "serve", "--enforce-eager", "{runtime_model}"],
            (
                "vllm serve --enforce-eager /models/a.gguf --host 127.0.0.1 --port PORT "
                "--served-model-name m"
            ),
            "m",
        ),
        (
            ["mlx_lm.server", "--", "more"],
            "mlx_lm.server --model /models/a.gguf --host 127.0.0.1 --port PORT -- more",
            "/models/a.gguf",
        ),
        (
            ["whisper-server"],
            "whisper-server -m /models/a.gguf --host 127.0.0.1 --port PORT",
            "/models/a.gguf",
        ),
        (
            ["text-embeddings-router"],
            (
                "text-embeddings-router --model-id /models/a.gguf --hostname 127.0.0.1 --port PORT "
                "--served-model-name m"
            ),
            "m",
        ),
    ],
)
async def test_a_programs_name_alone_is_enough(
    tmp_path: Path, command: list[str], whole: str, served: str
) -> None:
    plan = await plan_of(options(tmp_path, *command))
    assert words(plan) == whole.split()
    assert plan.served_model_name == served


@pytest.mark.parametrize(
    "command",
    [
        "llama-server -m {runtime_model} --port {port} --host 127.0.0.1 --alias {model} --metrics",
        "llama-server --hf-repo a/b --port=8 --host ::1 -a x --metrics",
        "mlx_vlm.server --model {runtime_model} --host 127.0.0.1 --port {port}",
        (
            "mlx-openai-server launch --model-path {runtime_model} --model-type lm "
            "--host 127.0.0.1 --port {port} --no-log-file"
        ),
        "mlx-openai-server launch --config /c.yaml",
        (
            "python -m llama_cpp.server --model {runtime_model} --model_alias {model} "
            "--host 127.0.0.1 --port {port} --interrupt_requests false"
        ),
        "vllm serve org/name --uds /s --served-model-name x",
    ],
)
async def test_a_whole_command_is_run_as_it_is_written(tmp_path: Path, command: str) -> None:
    plan = await plan_of(options(tmp_path, *command.split()))
    filled = command.replace("{runtime_model}", "/models/a.gguf").replace("{model}", "m")
    assert words(plan) == filled.replace("{port}", "PORT").split()


async def test_only_what_a_command_lacks_is_added(tmp_path: Path) -> None:
    own = options(tmp_path, "llama-server", "--model={runtime_model}", "--port", "{port}")
    settings = Settings("/models/a.gguf", arguments=("-ngl", "9", "--metrics"))
    whole = (
        "llama-server --model=/models/a.gguf --port PORT -ngl 9 --metrics "
        "--host 127.0.0.1 --alias m"
    )
    assert " ".join(words(await plan_of(own, settings))) == whole


async def test_llama_server_loads_a_model_of_the_hub_by_its_id(tmp_path: Path) -> None:
    plan = await plan_of(options(tmp_path, "llama-server"), Settings("org/name-GGUF"))
    assert option_value(plan.argv, "-hf") == "org/name-GGUF"
    assert option_value(plan.argv, "-m") is None


async def test_a_served_name_is_that_of_the_configuration_or_of_the_command(tmp_path: Path) -> None:
    own = options(tmp_path, "llama-server")
    named = await plan_of(replace(own, served_model_name="x-{model}"))
    assert named.served_model_name == option_value(named.argv, "--alias") == "x-m"
    by_command = await plan_of(replace(own, command=(*own.command, "-a", "{model}!")))
    assert by_command.served_model_name == "m!"
    assert option_value(by_command.argv, "--alias") is None


async def test_what_the_description_says_is_in_the_plan(tmp_path: Path) -> None:
    plan = await plan_of(options(tmp_path, "mlx_vlm.server"))
    assert plan.drains
    assert plan.use == programs.MLX_VLM.use
    assert (await plan_of(options(tmp_path, "python", "-m", "llama_cpp.server"))).health_path == (
        "/docs"
    )
    lazy = await plan_of(options(tmp_path, "mlx_lm.server"))
    assert lazy.ready_path == "/v1/completions"
    assert lazy.ready_body == '{"model": "/models/a.gguf", "prompt": "a", "max_tokens": 1}'
    assert not lazy.drains


async def test_a_key_of_the_configuration_wins(tmp_path: Path) -> None:
    own = replace(
        options(tmp_path, "mlx_vlm.server"),
        health_path="/h",
        ready_path="/r",
        ready_body="{}",
        busy_path="/b",
        busy_values=("n",),
        use_values=("u",),
        drains=False,
    )
    plan = await plan_of(own)
    assert (plan.health_path, plan.ready_path, plan.ready_body) == ("/h", "/r", "{}")
    assert plan.use == UseSignals("/b", ("n",), ("u",), counts_all=True)
    assert not plan.drains


async def test_a_program_that_is_called_plain_is_only_what_the_configuration_says(
    tmp_path: Path,
) -> None:
    own = options(tmp_path, "llama-server", "-m", "{runtime_model}", "--port", "{port}")
    plan = await plan_of(replace(own, kind="plain"))
    assert " ".join(words(plan)) == "llama-server -m /models/a.gguf --port PORT"
    assert (plan.use, plan.api_key, plan.served_model_name) == (UseSignals(), "", "/models/a.gguf")


@pytest.mark.parametrize(
    ("program", "variable"), [("llama-server", "LLAMA_API_KEY"), ("vllm", "VLLM_API_KEY")]
)
async def test_a_known_program_gets_its_key_where_it_reads_one(
    tmp_path: Path, program: str, variable: str
) -> None:
    own = options(tmp_path, program)
    plan = await plan_of(own)
    assert is_key(plan.api_key)
    assert dict(plan.environment)[variable] == plan.api_key
    assert plan.api_key not in plan.argv


@pytest.mark.parametrize(
    ("more", "variables", "keys"),
    [
        (("--api-key", "own"), (), True),
        (("--api-key-file", "/own"), (), True),
        ((), (("LLAMA_API_KEY", "own"),), True),
        ((), (), False),
    ],
)
async def test_a_known_program_has_the_key_that_it_was_given_or_none(
    tmp_path: Path, more: Sequence[str], variables: tuple[tuple[str, str], ...], keys: bool
) -> None:
    own = options(tmp_path, "llama-server", *more)
    plan = await plan_of(replace(own, environment=variables, server_keys=keys))
    assert plan.api_key == ""
    assert dict(plan.environment).get("LLAMA_API_KEY") == dict(variables).get("LLAMA_API_KEY")


async def test_a_placeholder_in_another_value_is_not_the_option_itself(tmp_path: Path) -> None:
    plan = await plan_of(options(tmp_path, "llama-server", "--log-file", "/logs/{port}"))
    assert plan.argv[plan.argv.index("--port") + 1] == str(plan.port)


def test_an_option_is_refused_however_it_is_spelled() -> None:
    description = description_of(["vllm", "serve"])
    assert description is not None
    (told,) = description.refusals(["--api_key=secret"])
    assert told.startswith("--api_key cannot be set there")


async def test_options_of_the_pool_are_refused_among_a_models_arguments(tmp_path: Path) -> None:
    own = options(tmp_path, "llama-server")
    runtime = CommandRuntime(own)
    arguments = ("-ngl", "9", "--port=1", "--api-key", "x")
    settings = Settings("/models/a.gguf", arguments=arguments)
    port, key = await runtime.argument_flaws(settings)
    assert port == "--port cannot be set there: the pool chooses it"
    assert key.startswith("--api-key cannot be set there: every user")
    with pytest.raises(RuntimeUnavailable, match="--port cannot be set there"):
        await runtime.prepare("m", settings)
    assert await CommandRuntime(replace(own, kind="plain")).argument_flaws(settings) == []


@pytest.mark.parametrize("description", PROGRAMS, ids=lambda one: one.name)
def test_a_description_is_whole(description: ProgramDescription) -> None:
    assert description.source
    assert bool(description.ready_path) == bool(description.ready_body)
    assert bool(description.use.path) == bool(description.use.gauges)
    placeholders = {option.value for option in description.options}
    assert {"{runtime_model}", "{port}", "{host}"} <= placeholders
    # A model's arguments cannot take the place of what the pool sets.
    assert "--port" in description.refused
    for name in description.served_names:
        assert name in description.refused
