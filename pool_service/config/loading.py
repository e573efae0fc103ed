"""Loading: reads the file, then overrides its values by environment variables and flags."""

import codecs
import errno
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from pool_service.adapters.models.files import TooLarge, read_within
from pool_service.adapters.system.writers import first_flaw
from pool_service.config.config import Config
from pool_service.config.contradictions import contradictions
from pool_service.config.errors import (
    RENAMED,
    ConfigError,
    KeyPath,
    closest,
    config_error,
    form_of,
    key_name,
    problems_of,
    tables,
)
from pool_service.paths import PathFlaw, absolute

PREFIX = "POOL_SERVICE_"
FILE_VARIABLE = f"{PREFIX}CONFIG"

_MISSPELT_SIMILARITY = 0.85
"""The least similarity of a misspelt variable to a known one. High, since other programs may set
variables with this prefix, as Kubernetes does for a service of this name."""

MAX_FILE_BYTES = 4 * 1024 * 1024
"""The largest configuration file; one with ten thousand models has less than a tenth."""


class _NotUtf8(Exception):
    """The file is in another encoding of Unicode."""


class _Override(NamedTuple):
    """A value from a variable or flag.

    place: the name of the variable or flag. value: text that is not parsed yet, or a list.
    """

    place: str
    section: str
    key: str
    value: str | list[str]


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """The sources of a configuration, so that a running service can load it again.

    The fields are the arguments of `load`.
    """

    config_file: Path | None
    overrides: Mapping[str, object]
    environ: Mapping[str, str]

    def load(self) -> Config:
        """Load the configuration. Raises ConfigError as `load` does."""
        return load(self.config_file, self.overrides, self.environ)

    def load_again(self) -> Config:
        """Load the configuration for a running service; an empty file is an error then.

        An editor that writes in place empties the file first; a reload at that moment must not
        remove everything that is configured. Raises ConfigError.
        """
        return load(self.config_file, self.overrides, self.environ, may_be_empty=False)

    def name_of(self, path: KeyPath) -> str:
        """Return the name of the variable or flag that sets a key, or the key's own name."""
        overrides = (*_from_environment(self.environ), *_from_flags(self.overrides))
        places: dict[KeyPath, str] = {(each.section, each.key): each.place for each in overrides}
        return places.get(path) or key_name(path)


def load(
    config_file: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    may_be_empty: bool = True,
) -> Config:
    """Return the configuration: `overrides` before `environ` before the file.

    Args:
        config_file: None: the file that POOL_SERVICE_CONFIG names, if it is set.
        overrides: values of flags by name, which is the variable's without its prefix ("listen",
            "memory_budget").
        environ: the environment variables.
        may_be_empty: accept an empty file, and wait for the writer of a pipe. False while a service
            runs: an editor may be writing the file, and the writer of a pipe may never come.

    Raises:
        ConfigError: with all problems of the configuration.
    """
    file = file_to_load(config_file, environ)
    place = "the path" if config_file is not None else FILE_VARIABLE
    if file is not None:
        _check_writers(file, place)
    values = _read(file, place, may_be_empty=may_be_empty) if file else {}
    misspelt = list(_misspelt_variables(environ))
    places: dict[KeyPath, str] = {}
    for override in [*_from_environment(environ), *_from_flags(overrides)]:
        _apply(override, values, places)
    return _validated(values, places, file, misspelt)


def file_to_load(config_file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return `config_file`, else the file that POOL_SERVICE_CONFIG names, if it is set."""
    named = environ.get(FILE_VARIABLE)
    return Path(named) if config_file is None and named else config_file


def variables() -> dict[str, tuple[str, str]]:
    """Return the section and key that each environment variable sets."""
    return {
        f"{PREFIX}{key if section == 'service' else f'{section}_{key}'}".upper(): (section, key)
        for section, table in tables().items()
        for key in table.model_fields
    }


def _check_writers(file: Path, place: str) -> None:
    """Raise ConfigError if other users could change the file, which names programs to run."""
    try:
        found = first_flaw([absolute(str(file))])
    except PathFlaw as flaw:
        raise ConfigError(f"cannot read {file}: it {flaw}; correct {place}") from flaw
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; correct {place}") from error
    if found is not None:
        raise ConfigError(
            f"{file} is refused, because other users could change it, and with it the programs "
            f"that run as you: {found}"
        )


def _read(file: Path, place: str, *, may_be_empty: bool) -> dict[str, Any]:
    try:
        text = _text_of(_content_of(absolute(str(file)), may_wait=may_be_empty))
        if not (may_be_empty or text.strip()):
            raise ConfigError(
                f"{file} is empty; perhaps it is being written just now. Reload again, or put a "
                "comment into it to configure nothing"
            )
        return tomllib.loads(text)
    except _NotUtf8:
        raise ConfigError(f"{file} is UTF-16 or UTF-32; save it as UTF-8") from None
    except PathFlaw as flaw:
        raise ConfigError(f"cannot read {file}: it {flaw}; correct {place}") from flaw
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; correct {place}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file} is not valid TOML: line {line} is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from error


def _content_of(file: Path, *, may_wait: bool) -> bytes:
    """Return the content of a file of at most MAX_FILE_BYTES. Raises OSError.

    may_wait: the file may be a pipe, such as a shell makes of <(COMMAND). A running service must
    not wait for a writer that may never come.
    """
    if not may_wait:
        return read_within(file, MAX_FILE_BYTES)
    with file.open("rb") as opened:
        content = opened.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise TooLarge(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return content


def _text_of(content: bytes) -> str:
    """Decode UTF-8, with or without the byte order mark that editors on Windows write."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        # A NUL byte: UTF-32, or UTF-16 without a byte order mark, whose text begins with ASCII.
        raise _NotUtf8
    return content.decode("utf-8-sig")


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Override]:
    """Yield the values of variables; an empty variable counts as not set."""
    for variable, (section, key) in variables().items():
        if environ.get(variable):
            yield _Override(variable, section, key, environ[variable])


def _from_flags(overrides: Mapping[str, object]) -> Iterator[_Override]:
    """Yield the values of flags; a flag that may be repeated yields a list of texts."""
    keys = {name.removeprefix(PREFIX).lower(): key for name, key in variables().items()}
    for name, value in overrides.items():
        parts = [str(part) for part in value] if isinstance(value, tuple | list) else str(value)
        yield _Override(f"--{name.replace('_', '-')}", *keys.get(name, ("service", name)), parts)


def _misspelt_variables(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a problem for each variable that is probably misspelt."""
    known = {*variables(), FILE_VARIABLE}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            meant = _renamed(name) or closest(
                name.removeprefix(PREFIX), _without_prefix(known), _MISSPELT_SIMILARITY
            )
            if meant:
                yield f"{name}: there is no such variable, did you mean {PREFIX}{meant}?"


def _renamed(variable: str) -> str | None:
    """Return the present name, without prefix, of a renamed variable; None for any other."""
    name = variable.removeprefix(PREFIX)
    for before, now in RENAMED.items():
        if name.endswith(before.upper()):
            return name.removesuffix(before.upper()) + now.upper()
    return None


def _without_prefix(names: set[str]) -> list[str]:
    return sorted(name.removeprefix(PREFIX) for name in names)


def _apply(override: _Override, values: dict[str, Any], places: dict[KeyPath, str]) -> None:
    table = values.setdefault(override.section, {})
    # If the file has no table there, the validation reports that.
    if isinstance(table, dict):
        field = tables()[override.section].model_fields.get(override.key)
        table[override.key] = (
            form_of(field).read(override.value)
            if field and isinstance(override.value, str)
            else override.value
        )
        places[override.section, override.key] = override.place


def _validated(
    values: dict[str, Any], places: Mapping[KeyPath, str], file: Path | None, problems: list[str]
) -> Config:
    """Return the valid configuration. Raises ConfigError with `problems` and all others."""
    try:
        config = Config.model_validate({name: {} for name in tables()} | values)
    except ValidationError as error:
        raise config_error(file, [*problems, *problems_of(error, places)]) from None
    contradicting = [
        f"{places.get(path) or key_name(path)}: {what}" for path, what in contradictions(config)
    ]
    if problems or contradicting:
        raise config_error(file, [*problems, *contradicting])
    return config.with_places(places)
