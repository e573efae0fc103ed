"""Delivery of keys: which servers have a key, and how each of them gets its own.

1. A vllm-mlx is sent it through its standard input or the standby's socket (`children/`).
2. Another program gets it in a variable, NAME = "{api_key}", or as {api_key_file} in its command:
   the path of a file in its working directory, which only this user can read. A known program gets
   it in the variable that it reads, unless the configuration gives it a key.
3. A server has no key if its runtime is set to have none, if its program does not get it by 1 or
   2, or if its arguments have one already.

No way leads through the arguments of a process, which every user of the machine can see.
"""

from collections.abc import Iterable, Sequence

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.launch_plan import option_names
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import Program, python_of
from pool_service.core.types import Settings

KEY = "{api_key}"
"""Stands for the key in the values of variables."""

KEY_FILE = "{api_key_file}"
"""Stands for the path of FILE_NAME in a command."""

FILE_NAME = "api-key"
"""The file with the key, in the working directory of the process."""

Variables = Iterable[tuple[str, str]]


def has_key(options: RuntimeOptions, program: Program, settings: Settings) -> bool:
    """Return whether a server with these settings has a key of its own. Blocking."""
    command = (*options.command, *settings.arguments)
    if not options.server_keys:
        return False
    if options.is_sent_its_key:
        # The launcher runs Python scripts only.
        return vllm_mlx.API_KEY not in option_names(command) and bool(python_of(program.path))
    variables = (*key_variables(options, settings), *options.environment, *settings.environment)
    return names_key(command, variables)


def key_variables(options: RuntimeOptions, settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return the variable in which a known program gets its key, with KEY as its value.

    Empty if the program reads none, or if the configuration gives it a key, or says that it is to
    have none.
    """
    described = options.description
    if described is None or not described.key_variable or not options.server_keys:
        return ()
    command = (*options.command, *settings.arguments)
    environment = (*options.environment, *settings.environment)
    is_given = (
        names_key(command, environment)
        or not option_names(command).isdisjoint(described.key_options)
        or described.key_variable in dict(environment)
    )
    return () if is_given else ((described.key_variable, KEY),)


def names_key(command: Sequence[str], environment: Variables) -> bool:
    """Return whether a command or variables say how a program gets its key."""
    return names_key_file(command) or any(KEY in value for _, value in environment)


def names_key_file(command: Sequence[str]) -> bool:
    """Return whether a command has the path of the file with the key."""
    return any(KEY_FILE in part for part in command)


def with_key(environment: Variables, key: str) -> tuple[tuple[str, str], ...]:
    """Return variables with the key in the place of KEY."""
    return tuple((name, value.replace(KEY, key)) for name, value in environment)


def key_files(command: Sequence[str], key: str) -> tuple[tuple[str, str], ...]:
    """Return the file with the key, by name and content, if a command has its path."""
    return ((FILE_NAME, key),) if names_key_file(command) else ()
