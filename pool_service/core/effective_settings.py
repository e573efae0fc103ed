"""The settings that a model runs with, as text, each with where it comes from. Pure functions.

Values that can be secrets are left out: those of variables and of arguments that say so by their
name, and the text of prompts.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pool_service.core.catalogue import Catalogue
from pool_service.core.server import Server
from pool_service.core.types import FOREVER, Settings
from pool_service.core.units import size

BY_DEFAULT = "default"
BY_CALLER = "a caller"
BY_PIN = "a caller, by Pin"

LONGEST_VALUE = 2000
"""Characters of a value; a longer one is cut."""

_DURATIONS = (
    "keep_alive",
    "grace_period",
    "start_timeout",
    "stall_timeout",
    "probe_timeout",
    "drain_timeout",
    "stop_timeout",
)
_SIZES = ("expected_memory", "memory_limit", "prompt_cache")
_SWITCHES = ("trust_remote_code", "download", "pinned", "preload", "home")
_LISTS = ("groups",)
KEYS = (
    "runtime_model",
    "runtime",
    *_DURATIONS,
    "arguments",
    "environment",
    *_SIZES,
    *_LISTS,
    "warm_prompts",
    *_SWITCHES,
)
"""The settings that are told, by their keys in the configuration."""

SANDBOX = "sandbox"
"""The key of a runtime that is told besides."""

_SECRET_WORDS = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "bearer",
        "credential",
        "credentials",
        "header",
        "headers",
        "key",
        "passphrase",
        "passwd",
        "password",
        "secret",
        "token",
    }
)
"""Words in the name of an argument or a variable whose value can be a secret. Not `tokens`: an
argument has their number."""

_WORD = re.compile(r"[A-Za-z]+")
_USER_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True, slots=True)
class EffectiveSetting:
    """A setting as the next server of a model gets it.

    source: where its value comes from: "default", the name of a section, a variable or a flag, or
    in words. running: the value that the present server has, if that is another one.
    """

    key: str
    value: str
    source: str
    running: str = ""


@dataclass(frozen=True, slots=True)
class SandboxState:
    """Whether the next server of a model is confined.

    flaw: why it is not; empty if it is. section: of the configuration that says so; empty: by
    default.
    """

    flaw: str
    section: str = ""


def effective_settings(
    catalogue: Catalogue,
    model: str,
    settings: Settings,
    server: Server | None,
    *,
    has_pin: bool = False,
) -> tuple[EffectiveSetting, ...]:
    """Return the settings that the next server of a model gets.

    server: the present one. has_pin: a caller has pinned the model, or has taken its pin back.
    """
    found = []
    for key in KEYS:
        value = _text(key, settings)
        running = _text(key, server.settings) if server is not None else value
        if key == "keep_alive" and server is not None:
            running = _duration(server.keep_alive)
            is_asked = server.keep_alive != server.settings.keep_alive
            running += f" (by {BY_CALLER})" if is_asked and running != value else ""
        is_said = has_pin and key == "pinned"
        source = BY_PIN if is_said else _source(catalogue, model, settings, key)
        found.append(EffectiveSetting(key, value, source, running if running != value else ""))
    return tuple(found)


def sandbox_setting(state: SandboxState, server: Server | None) -> EffectiveSetting:
    """Return whether the next server of a model is confined. server: the present one."""
    value = f"not confined: {state.flaw}" if state.flaw else "confined"
    running = ""
    if server is not None and server.plan is not None:
        is_confined = server.plan.sandbox is not None
        if is_confined == bool(state.flaw):
            running = "confined" if is_confined else "not confined"
    return EffectiveSetting(SANDBOX, value[:LONGEST_VALUE], state.section or BY_DEFAULT, running)


def _source(catalogue: Catalogue, model: str, settings: Settings, key: str) -> str:
    if key == "home":
        return "service.home_model" if settings.home else BY_DEFAULT
    if key == "runtime_model" and settings.asked:
        return "named by a caller, and remembered"
    # Another runtime model than the configured one gets the defaults.
    section = frozenset() if settings.asked else catalogue.section_keys.get(model, frozenset())
    own = f"[models.{json.dumps(model, ensure_ascii=False)}]"
    default = catalogue.default_origins.get(key, "")
    if key in section:
        return f"{own} and {default}" if key == "environment" and default else own
    if key == "runtime_model":
        return "the name of the model"
    return default or BY_DEFAULT


def _text(key: str, settings: Settings) -> str:
    """Return a setting's value as text, of at most LONGEST_VALUE characters."""
    return _FORMS.get(key, _as_it_is)(getattr(settings, key))[:LONGEST_VALUE]


def _without_secrets(arguments: tuple[str, ...]) -> list[str]:
    """Return arguments with `***` in the place of values that can be secrets."""
    shown, hides = [], False
    for one in arguments:
        name, equals, _ = one.partition("=")
        is_option, is_secret = one.startswith("-"), _is_secret(name)
        if is_secret and equals:
            shown.append(f"{name}=***")
        elif hides and not is_option:
            shown.append("***")
        else:
            shown.append(_USER_IN_URL.sub("***", one))
        hides = is_option and is_secret and not equals
    return shown


def _is_secret(name: str) -> bool:
    """Return whether the name of an argument or a variable says that its value is a secret."""
    return any(word.lower() in _SECRET_WORDS for word in _WORD.findall(name))


def _as_it_is(value: Any) -> str:  # noqa: ANN401  # of any field of Settings
    return str(value)


def _duration(seconds: float) -> str:
    """Return a duration as the configuration has it, such as 90s, 5m or 1h30m."""
    if seconds == FOREVER:
        return "forever"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest, "s")]
    return "".join(f"{count:g}{unit}" for count, unit in parts if count) or "0s"


def _size(count: int | None) -> str:
    if count is None:
        return "none"
    return size(count) if count else "off"


def _switch(value: bool) -> str:  # noqa: FBT001  # called by the table below
    return "true" if value else "false"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _arguments(arguments: tuple[str, ...]) -> str:
    return " ".join(_without_secrets(arguments)) or "none"


def _variables(variables: tuple[tuple[str, str], ...]) -> str:
    names = ", ".join(name for name, _ in variables)
    return f"{names} (values are not shown)" if names else "none"


def _prompts(prompts: tuple[str, ...]) -> str:
    return f"{len(prompts)}, of {sum(map(len, prompts))} characters" if prompts else "none"


_FORMS: Mapping[str, Callable[[Any], str]] = {
    "runtime": lambda name: name or "default",
    "arguments": _arguments,
    "environment": _variables,
    "warm_prompts": _prompts,
    **dict.fromkeys(_DURATIONS, _duration),
    **dict.fromkeys(_SIZES, _size),
    **dict.fromkeys(_LISTS, _names),
    **dict.fromkeys(_SWITCHES, _switch),
}
"""How the values of a key are told."""
