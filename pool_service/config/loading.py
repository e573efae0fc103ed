"""Loading: reads the file, then overrides its values by environment variables and flags."""

import codecs
import errno
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple

from pydantic import ValidationError

from pool_service.adapters.models.files import TooLarge, read_within
from pool_service.adapters.system.writers import first_flaw
from pool_service.config.errors import (
    ConfigError,
    KeyPath,
    closest,
    config_error,
    form_of,
    key_name,
    problems_of,
    tables,
)
from pool_service.config.layout import C, Layout, Places
from pool_service.paths import PathFlaw, absolute

FLEET_PREFIX = "POOL_SERVICE_FLEET_"
"""The beginning of the variables of a front, and of those of [fleet] of a service."""

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
class Source(Generic[C]):
    """The sources of a configuration, so that a running program can load it again.

    config_file: None: the file that the variable names (`Layout.file_variable`), if it is set.
    overrides: values of flags by name, which is the variable's without its prefix ("listen",
    "memory_budget").
    environ: the environment variables.
    """

    layout: Layout[C]
    config_file: Path | None
    overrides: Mapping[str, object]
    environ: Mapping[str, str]

    def load(self, *, may_be_empty: bool = True) -> C:
        """Return the configuration: `overrides` before `environ` before the file.

        may_be_empty: accept an empty file, and wait for the writer of a pipe. False while a program
        runs: an editor may be writing the file, and the writer of a pipe may never come.

        Raises ConfigError with all problems of the configuration.
        """
        layout, environ = self.layout, self.environ
        file = file_to_load(self.config_file, environ, layout)
        place = "the path" if self.config_file is not None else layout.file_variable
        if file is not None:
            _check_writers(file, place, layout.harm)
        values = _read(file, place, may_be_empty=may_be_empty) if file else {}
        misspelt = list(_misspelt_variables(environ, layout))
        places: dict[KeyPath, str] = {}
        for override in self._overrides():
            _apply(override, values, places, layout)
        return _validated(values, places, file, misspelt, layout)

    def load_again(self) -> C:
        """Load the configuration for a running program; an empty file is an error then.

        An editor that writes in place empties the file first; a reload at that moment must not
        remove everything that is configured. Raises ConfigError.
        """
        return self.load(may_be_empty=False)

    def name_of(self, path: KeyPath) -> str:
        """Return the name of the variable or flag that sets a key, or the key's own name."""
        places: dict[KeyPath, str] = {
            (each.section, each.key): each.place for each in self._overrides()
        }
        return places.get(path) or key_name(path)

    def _overrides(self) -> list[_Override]:
        return [
            *_from_environment(self.environ, self.layout),
            *_from_flags(self.overrides, self.layout),
        ]


def file_to_load(
    config_file: Path | None, environ: Mapping[str, str], layout: Layout[Any]
) -> Path | None:
    """Return `config_file`, else the file that the layout's variable names, if it is set."""
    named = environ.get(layout.file_variable)
    return Path(named) if config_file is None and named else config_file


def variables(layout: Layout[Any]) -> dict[str, tuple[str, str]]:
    """Return the section and key that each environment variable sets."""
    return {
        f"{layout.prefix}{key if section == layout.main else f'{section}_{key}'}".upper(): (
            section,
            key,
        )
        for section, table in tables(layout.root).items()
        for key in table.model_fields
    }


def _check_writers(file: Path, place: str, harm: str) -> None:
    """Raise ConfigError if other users could change the file, and with it what `harm` names."""
    try:
        found = first_flaw([absolute(str(file))])
    except PathFlaw as flaw:
        raise ConfigError(f"cannot read {file}: it {flaw}; correct {place}") from flaw
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}; correct {place}") from error
    if found is not None:
        raise ConfigError(
            f"{file} is refused, because other users could change it, and with it {harm}: {found}"
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


def _from_environment(environ: Mapping[str, str], layout: Layout[Any]) -> Iterator[_Override]:
    """Yield the values of variables; an empty variable counts as not set."""
    for variable, (section, key) in variables(layout).items():
        if environ.get(variable):
            yield _Override(variable, section, key, environ[variable])


def _from_flags(overrides: Mapping[str, object], layout: Layout[Any]) -> Iterator[_Override]:
    """Yield the values of flags; a flag that may be repeated yields a list of texts."""
    keys = {
        name.removeprefix(layout.prefix).lower(): key for name, key in variables(layout).items()
    }
    for name, value in overrides.items():
        parts = [str(part) for part in value] if isinstance(value, tuple | list) else str(value)
        yield _Override(f"--{name.replace('_', '-')}", *keys.get(name, (layout.main, name)), parts)


def _misspelt_variables(environ: Mapping[str, str], layout: Layout[Any]) -> Iterator[str]:
    """Yield a problem for each variable that is probably misspelt."""
    known = {*variables(layout), layout.file_variable}
    for name in sorted(environ):
        if name.startswith(layout.prefix) and name not in known:
            meant = _renamed(name, layout) or _closest_variable(name, known, layout.prefix)
            if meant:
                yield f"{name}: there is no such variable, did you mean {layout.prefix}{meant}?"


def _closest_variable(name: str, known: set[str], prefix: str) -> str | None:
    """Return the known variable, without prefix, of which another one is a misspelling.

    Variables of a front may be in the environment of a service, whose own ones read alike
    (TLS_CERT, FLEET_TLS_CERT): they are compared with those of [fleet] only.
    """
    of_fleet = name.startswith(FLEET_PREFIX)
    alike = [one.removeprefix(prefix) for one in known if one.startswith(FLEET_PREFIX) == of_fleet]
    return closest(name.removeprefix(prefix), sorted(alike), _MISSPELT_SIMILARITY)


def _renamed(variable: str, layout: Layout[Any]) -> str | None:
    """Return the present name, without prefix, of a renamed variable; None for any other."""
    name = variable.removeprefix(layout.prefix)
    for before, now in layout.renamed.items():
        if name.endswith(before.upper()):
            return name.removesuffix(before.upper()) + now.upper()
    return None


def _apply(
    override: _Override,
    values: dict[str, Any],
    places: dict[KeyPath, str],
    layout: Layout[Any],
) -> None:
    table = values.setdefault(override.section, {})
    # If the file has no table there, the validation reports that.
    if isinstance(table, dict):
        field = tables(layout.root)[override.section].model_fields.get(override.key)
        table[override.key] = (
            form_of(field).read(override.value)
            if field and isinstance(override.value, str)
            else override.value
        )
        places[override.section, override.key] = override.place


def _validated(
    values: dict[str, Any],
    places: Places,
    file: Path | None,
    problems: list[str],
    layout: Layout[C],
) -> C:
    """Return the valid configuration. Raises ConfigError with `problems` and all others."""
    try:
        config = layout.root.model_validate({name: {} for name in tables(layout.root)} | values)
    except ValidationError as error:
        raise config_error(file, [*problems, *problems_of(error, places, layout)]) from None
    contradicting = [
        f"{places.get(path) or key_name(path)}: {what}"
        for path, what in layout.contradictions(config)
    ]
    if problems or contradicting:
        raise config_error(file, [*problems, *contradicting])
    return layout.with_places(config, places)
