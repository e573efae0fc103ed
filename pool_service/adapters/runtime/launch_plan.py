"""Launch plans: a runtime's command template filled for one model, and checks of model names."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pool_service.adapters.models.disk_access import protection_hint
from pool_service.adapters.runtime import vllm_mlx
from pool_service.core.errors import ModelRejected
from pool_service.paths import begins_a_path, home_directory

Kind = Literal["vllm-mlx", "plain"]

LOOPBACK = "127.0.0.1"
"""The address at which servers listen for this machine only."""

HOST = "{host}"
"""Stands for the address to listen on in a command."""

_PLACEHOLDER = re.compile(r"\{(runtime_model|port|host|model|api_key_file)\}")


@dataclass(frozen=True, slots=True)
class Names:
    """The values for a command template.

    key_file: the path of the file with the server's key. host: the address to listen on.
    """

    model: str
    runtime_model: str
    port: str
    key_file: str = ""
    host: str = LOOPBACK


def kind_of(command: Sequence[str]) -> Kind:
    """Return the kind of runtime that a command template starts, by its program's name."""
    return "vllm-mlx" if Path(command[0]).name == vllm_mlx.PROGRAM else "plain"


def takes_port(command: Sequence[str]) -> bool:
    """Return whether a command template has the placeholder {port}."""
    return any("{port}" in part for part in command)


def fill(command: Sequence[str], names: Names) -> tuple[str, ...]:
    """Return the template with its placeholders replaced; placeholders in the values are kept."""
    values = {
        "model": names.model,
        "runtime_model": names.runtime_model,
        "port": names.port,
        "host": names.host,
        "api_key_file": names.key_file,
    }
    return tuple(_PLACEHOLDER.sub(lambda match: values[match[1]], part) for part in command)


def fill_json(template: str, names: Names) -> str:
    """Return a JSON template with the placeholders inside its strings replaced."""
    escaped = (
        json.dumps(name)[1:-1]
        for name in (names.model, names.runtime_model, names.port, "", names.host)
    )
    return fill((template,), Names(*escaped))[0]


def with_options(
    command: Sequence[str],
    served_model_name: str,
    *,
    metrics: bool = False,
    prompt_bytes: int = 0,
) -> tuple[str, ...]:
    """Return a vllm-mlx command with the options that the pool relies on, unless it has them.

    metrics: add the option for metrics, which this vllm-mlx is known to have.
    prompt_bytes: the memory for computed prompts that are kept; 0: they are not kept.

    The options are inserted directly behind `serve`: if the template has a `--`, arguments after
    it are no options any more.
    """
    names = option_names(command)
    # As if it were given: vllm-mlx does not take both.
    if not names.isdisjoint(vllm_mlx.NOT_WITH_AUTO_UNLOAD):
        names |= {vllm_mlx.AUTO_UNLOAD}
    wanted: tuple[tuple[str, ...], ...] = (
        (vllm_mlx.SERVED_MODEL_NAME, served_model_name),
        *vllm_mlx.OPTIONS,
        *([(vllm_mlx.METRICS,)] if metrics else []),
        *(_prompt_options(names, prompt_bytes) if prompt_bytes else []),
    )
    added = [part for option in wanted if option[0] not in names for part in option]
    at = command.index("serve") + 1 if "serve" in command else len(command)
    return (*command[:at], *added, *command[at:])


def _prompt_options(names: frozenset[str], prompt_bytes: int) -> list[tuple[str, ...]]:
    """Return the options with which computed prompts are kept, in a memory that is bounded."""
    if vllm_mlx.CACHE_MEMORY_SHARE in names:
        return [(vllm_mlx.BATCHING,)]
    megabytes = max(prompt_bytes // 1024**2, 1)
    return [(vllm_mlx.BATCHING,), (vllm_mlx.CACHE_MEMORY, str(megabytes))]


def option_names(command: Sequence[str]) -> frozenset[str]:
    """Return the names of the options in a command, and its other words."""
    return frozenset(part.partition("=")[0] for part in command)


def option_value(command: Sequence[str], option: str) -> str | None:
    """Return the value of an option (`--option value`, `--option=value`); None without one.

    The last one counts, as in argparse: a model's arguments follow those of the runtime's command.
    """
    value: str | None = None
    for part, following in zip(command, [*command[1:], None], strict=False):
        if part == option:
            value = following
        elif part.startswith(f"{option}="):
            value = part.removeprefix(f"{option}=")
    return value


def check_names(model: str, runtime_model: str) -> None:
    """Raise ModelRejected for a name that no runtime can load.

    A server runs in an empty directory of its own and without a shell: a relative path leads
    nowhere there, and `~` and variables are not expanded.
    """
    for name in (model, runtime_model):
        if name.startswith("-"):
            why = "it begins with '-' and would be taken for an option"
            raise ModelRejected(f"The model {name!r} cannot be loaded: {why}.", model=model)
    if begins_a_path(runtime_model):
        why = "a path must be absolute, since the runtime does not run in your directory"
        raise ModelRejected(f"The model {runtime_model!r} cannot be loaded: {why}.", model=model)


def check_directory(model: str, runtime_model: str) -> None:
    """Raise ModelRejected if an absolute path is not the directory of a model. Blocking."""
    directory = Path(runtime_model)
    if not directory.is_absolute():
        return
    try:
        why = _flaw(directory)
        if why is None:
            # A directory that macOS protects exists, but cannot be listed.
            os.scandir(directory).close()
    except OSError as error:
        why = f"{error.strerror}{protection_hint(directory, home=home_directory())}"
    if why:
        raise ModelRejected(f"The model {runtime_model!r} cannot be loaded: {why}.", model=model)


def _flaw(directory: Path) -> str | None:
    if not directory.exists():
        return "there is no such directory"
    if not directory.is_dir():
        return "it is a file; name the directory that holds config.json and the weights"
    if not (directory / "config.json").is_file():
        return "the directory has no config.json"
    return None
