"""Parts of a server's command that depend on its runtime and on the settings of its model."""

from collections.abc import Sequence
from pathlib import Path

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.launch_plan import Kind, option_value
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import release_of
from pool_service.core.activity import UseSignals
from pool_service.core.types import Settings


def other_command(
    options: RuntimeOptions, program: Path, settings: Settings
) -> tuple[tuple[str, ...], str]:
    """Return the command of a program that is not vllm-mlx, and the template of its served name.

    If the pool knows the program, the command has the options that the pool relies on.
    """
    described = options.description
    command = (str(program), *options.command[1:])
    if described is None:
        served = options.served_model_name or "{runtime_model}"
        return (*command, *settings.arguments), served
    served = options.served_model_name or described.default_served
    whole = described.completed(command, settings.arguments, served, settings.runtime_model)
    return whole, described.served_name(whole) or served


def embedding_model_name(kind: Kind, argv: Sequence[str]) -> str:
    """Return the name to which the embedding model of a command answers; empty without one."""
    if kind != "vllm-mlx":
        return ""
    return option_value(argv, vllm_mlx.EMBEDDING_MODEL) or ""


def use_of_command(
    options: RuntimeOptions, command: Sequence[str], version: str | None
) -> UseSignals:
    """Return where the server of a command reports its use; version: of vllm-mlx, if known."""
    if options.effective_kind != "vllm-mlx":
        return options.known_use
    release = release_of(version) if version else None
    return vllm_mlx.use_signals(release, with_metrics=vllm_mlx.METRICS in command)


def with_warm_prompts(
    command: tuple[str, ...], prompts: Sequence[str]
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Return the command with the option for warm prompts, and the file that the option names.

    Both are left out for the default engine, which would compute the prompts and not use them.
    """
    if not prompts or vllm_mlx.BATCHING not in command:
        return command, ()
    at = command.index(vllm_mlx.BATCHING)
    option = (vllm_mlx.WARM_PROMPTS, vllm_mlx.WARM_PROMPTS_FILE)
    file = (vllm_mlx.WARM_PROMPTS_FILE, vllm_mlx.warm_prompts_file(prompts))
    return (*command[:at], *option, *command[at:]), (file,)
