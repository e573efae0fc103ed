"""The types of the configuration's values that only servers and their models have.

A front has none of them: what they are checked by belongs to the programs of servers.
"""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from pool_service.adapters.probe.metrics_text import is_selector
from pool_service.adapters.runtime.key_delivery import KEY, KEY_FILE
from pool_service.adapters.runtime.launch_plan import Kind, Names, fill
from pool_service.config.types import (
    Flaw,
    Form,
    absolute_path,
    number_of,
    section_name,
    split_commas,
    switch_of,
    without_duplicates,
)
from pool_service.core.names import model_flaw, runtime_model_flaw
from pool_service.paths import begins_a_path

MAX_STANDBYS = 64
# Not preceded by $, so that a shell's ${NAME} in a script argument is no placeholder.
_PLACEHOLDER = re.compile(r"(?<!\$)\{\s*([A-Za-z_][A-Za-z0-9_-]*)\s*\}")
_PLACEHOLDERS = ("runtime_model", "port", "host", "model", "api_key_file")
_VARIABLE = re.compile(r"[^=\0]+")
_ORIGIN = r"[a-z][a-z0-9.+-]*://[a-z0-9._:\[\]-]+"
_HOST = re.compile(rf"\*|[a-z0-9._-]+|[0-9a-f:.]+|{_ORIGIN}", re.IGNORECASE)
DEFAULT_RUNTIME = "default"
"""The name of [runtime] in a key that names a runtime."""


def _split_shell(text: str) -> list[str] | str:
    try:
        return shlex.split(text)
    except ValueError:
        return text


def _assignments(text: str) -> object:
    words = _split_shell(text)
    if isinstance(words, str) or not all("=" in word for word in words):
        return text
    return dict(word.split("=", 1) for word in words)


def _host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise Flaw(
            f"{text!a} is no name of a host (without a port) and no origin such as app://frame"
        )
    return text.lower()


def _command(command: tuple[str, ...]) -> tuple[str, ...]:
    if not (command and command[0]) or any("\0" in part for part in command):
        raise ValueError
    if begins_a_path(command[0]):
        absolute_path(command[0])
    _check_without_key(command)
    unknown = _unknown_placeholder(command)
    if unknown:
        known = "{runtime_model}, {port}, {host}, {model} and {api_key_file}"
        raise Flaw(f"has the unknown placeholder {unknown}, known are {known}")
    return command


def _check_without_key(command: Sequence[str]) -> None:
    """Raise Flaw for a command that would show the key of its server."""
    if any(KEY in part for part in command):
        raise Flaw(
            f"must not have {KEY}, since every user of this machine can read the arguments of a "
            f'process (ps). Give the key in a variable, environment = {{ API_KEY = "{KEY}" }}, '
            f"or as a file, {KEY_FILE}"
        )


def _unknown_placeholder(command: Sequence[str]) -> str | None:
    """Return the first unknown placeholder, with a suggestion; None if all are known."""
    match = _PLACEHOLDER.search("\0".join(fill(command, Names("", "", ""))))
    if match is None:
        return None
    meant = match[1].lower().replace("-", "_")
    hint = f" (did you mean {{{meant}}}?)" if meant in _PLACEHOLDERS else ""
    return " ".join(match[0].split()) + hint


def _variables(value: object) -> tuple[tuple[str, str], ...]:
    """Check a table of variables. Messages leave out the values, which can be secrets."""
    if isinstance(value, tuple):
        return value
    if not isinstance(value, dict):
        raise Flaw('must be a table of variables, such as { HF_HOME = "/models" }')
    for name, text in value.items():
        if _VARIABLE.fullmatch(name) is None:
            raise Flaw(f"{name!r} cannot be the name of a variable")
        if not isinstance(text, str) or "\0" in text:
            raise Flaw(f"{name} must be text in quotes")
    return tuple(value.items())


def _model_name(name: str) -> str:
    flaw = model_flaw(name)
    if flaw:
        raise Flaw(f"the name {flaw}")
    return name


def _alias(name: str) -> str:
    flaw = model_flaw(name)
    if flaw:
        raise Flaw(f"{name!a} {flaw}")
    return name


def _busy_value(name: str) -> str:
    if not is_selector(name):
        raise Flaw(
            f"{name!a} is neither the name of a metric, such as requests_running or "
            'requests_running{kind="chat"}, nor a JSON pointer, such as /summary/in_flight'
        )
    return name


def _request_body(text: str) -> str:
    names = Names("model", "runtime_model", "1")
    try:
        body = json.loads(fill((text,), names)[0])
    except (ValueError, RecursionError) as error:
        raise Flaw(f"is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError  # noqa: TRY004  # pydantic converts ValueError only
    return text


def _runtime_name(name: str) -> str:
    if name == DEFAULT_RUNTIME:
        raise Flaw("is the name of [runtime] itself; set that, or choose another name")
    return section_name(name)


def _runtime_reference(name: str) -> str:
    return "" if name == DEFAULT_RUNTIME else name


def _arguments(arguments: tuple[str, ...]) -> tuple[str, ...]:
    if any("\0" in part for part in arguments):
        raise ValueError
    _check_without_key(arguments)
    return tuple(map(_argument, arguments))


def _argument(part: str) -> str:
    """Make a path in an argument absolute, since servers run in directories of their own."""
    option, equals, value = part.partition("=") if part.startswith("--") else ("", "", part)
    return f"{option}{equals}{absolute_path(value)}" if begins_a_path(value) else part


def _runtime_model(name: str) -> str:
    flaw = runtime_model_flaw(name)
    if flaw:
        raise Flaw(flaw)
    is_path = begins_a_path(name) or (name.startswith("/") and "$" in name)
    return str(absolute_path(name)) if is_path else name


# --- types ------------------------------------------------------------------------------

StandbyCount = Annotated[
    int,
    Field(strict=True, ge=0, le=MAX_STANDBYS),
    Form("whole number", f"a whole number from 0 to {MAX_STANDBYS}", number_of),
]
Command = Annotated[
    tuple[Annotated[str, Field(strict=True)], ...],
    AfterValidator(_command),
    Form("list of arguments", 'a list of arguments, such as ["program", "{port}"]', _split_shell),
]
RuntimeKind = Annotated[
    Kind | None, Form('"vllm-mlx" or "plain"', '"vllm-mlx" or "plain"', str.lower)
]
Hosts = Annotated[
    tuple[Annotated[str, Field(strict=True), AfterValidator(_host)], ...],
    AfterValidator(without_duplicates),
    Form("list of names", 'a list of names of hosts, such as ["models.example"]', split_commas),
]
UrlPath = Annotated[
    str,
    Field(strict=True, pattern=r"^/[!-~]*$"),
    Form("path of a URL", 'a path of a URL, such as "/health"'),
]
HealthPath = Annotated[
    Annotated[str, Field(strict=True, pattern=r"^/[!-~]*$")] | None,
    Form("path of a URL", 'a path of a URL, such as "/health"'),
]
BusyValues = Annotated[
    tuple[Annotated[str, Field(strict=True), AfterValidator(_busy_value)], ...],
    AfterValidator(without_duplicates),
    Form(
        "list of names",
        'a list of metrics, such as ["requests_running"], or of JSON pointers, such as ["/busy"]',
        split_commas,
    ),
]
RequestBody = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_request_body),
    Form("JSON as text", 'a JSON object as text, such as \'{"model": "{runtime_model}"}\''),
]
Drains = Annotated[bool | None, Field(strict=True), Form("switch", "true or false", switch_of)]
ServedName = Annotated[
    Annotated[str, Field(strict=True), AfterValidator(_runtime_model)] | None,
    Form("text", "a name in quotes"),
]
"""Checked as a runtime model, since it often is that one, which may be a path."""
Variables = Annotated[
    tuple[tuple[str, str], ...],
    BeforeValidator(_variables),
    Form("table of texts", "a table of texts", _assignments),
]
ModelName = Annotated[str, AfterValidator(_model_name)]
ModelReference = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_model_name),
    Form("text", "the name of a model, in quotes"),
]
RuntimeName = Annotated[str, AfterValidator(_runtime_name)]
RuntimeReference = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_runtime_reference),
    Form("text", f'the name of a [runtimes.NAME] section or "{DEFAULT_RUNTIME}", in quotes'),
]
Aliases = Annotated[
    tuple[Annotated[str, Field(strict=True), AfterValidator(_alias)], ...],
    AfterValidator(without_duplicates),
    Form("list of names", 'a list of names, such as ["chat", "gpt-4"]', split_commas),
]
GroupNames = Annotated[
    tuple[Annotated[str, Field(strict=True)], ...],
    AfterValidator(without_duplicates),
    Form("list of names", 'a list of names of groups, such as ["large"]', split_commas),
]
Arguments = Annotated[
    tuple[Annotated[str, Field(strict=True)], ...],
    AfterValidator(_arguments),
    Form(
        "list of arguments", 'a list of arguments, such as ["--max-tokens", "4096"]', _split_shell
    ),
]
RuntimeModel = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_runtime_model),
    Form("text", "a Hugging Face id or a directory, in quotes"),
]
