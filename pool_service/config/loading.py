"""Reads the file, the environment and the flags, and lays them over each other."""

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
from pool_service.config.errors import (
    RENAMED,
    ConfigError,
    KeyPath,
    closest,
    error_of,
    explained,
    form_of,
    key_name,
    tables,
)
from pool_service.config.validators import contradictions
from pool_service.paths import PathFlaw, absolute

PREFIX = "POOL_SERVICE_"
FILE_VARIABLE = f"{PREFIX}CONFIG"

# So high that only a slip is meant: others may have variables of this prefix too, as
# Kubernetes does for a service of this name.
_SLIP = 0.85


LARGEST_BYTES = 4 * 1024 * 1024
"""Of a configuration; one of ten thousand models has less than a tenth."""


class _NotUtf8(Exception):
    """A text is in another encoding of Unicode."""


class _Given(NamedTuple):
    """A value of a variable or flag, by the name of that; text is yet to be read."""

    place: str
    section: str
    key: str
    value: str | list[str]


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """Where a configuration comes from, so that a running service can read it again.

    The fields are the arguments of `load`.
    """

    config_file: Path | None
    overrides: Mapping[str, object]
    environ: Mapping[str, str]

    def load(self) -> Config:
        """The configuration as it is now. Raises ConfigError as `load` does."""
        return load(self.config_file, self.overrides, self.environ)

    def load_again(self) -> Config:
        """Load it for a service that runs: a file without a word is no configuration then.

        Whoever writes a file in place empties it first; to read it at that moment would take
        away all that is configured. Raises ConfigError.
        """
        return load(self.config_file, self.overrides, self.environ, may_be_empty=False)

    def name_of(self, path: KeyPath) -> str:
        """Return where a key is set: the variable or flag that goes before the file, or the key."""
        given = (*_of_environment(self.environ), *_of_flags(self.overrides))
        places: dict[KeyPath, str] = {(each.section, each.key): each.place for each in given}
        return places.get(path) or key_name(path)


def load(
    config_file: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str],
    *,
    may_be_empty: bool = True,
) -> Config:
    """The configuration of a file, with the environment above it and `overrides` above both.

    config_file: None is what POOL_SERVICE_CONFIG says, or none at all; overrides: values by
    the names of flags, which are those of the variables ("listen", "memory_budget");
    may_be_empty: whether a file with nothing in it says something. Raises ConfigError, which
    tells everything that is wrong.
    """
    file, place = config_file, "the path"
    if file is None and environ.get(FILE_VARIABLE):
        file, place = Path(environ[FILE_VARIABLE]), FILE_VARIABLE
    if file is not None:
        _check_writers(file, place)
    values = _read(file, place, may_be_empty=may_be_empty) if file else {}
    slips = list(_slips(environ))
    places: dict[KeyPath, str] = {}
    for given in [*_of_environment(environ), *_of_flags(overrides)]:
        _lay_over(values, places, given)
    return _validated(values, places, file, slips)


def variables() -> dict[str, tuple[str, str]]:
    """The section and key that each environment variable sets."""
    return {
        f"{PREFIX}{key if section == 'service' else f'{section}_{key}'}".upper(): (section, key)
        for section, table in tables().items()
        for key in table.model_fields
    }


def _check_writers(file: Path, place: str) -> None:
    """Raise ConfigError if others could change the file: it says which programs are run."""
    try:
        found = first_flaw([absolute(str(file))])
    except PathFlaw as flaw:
        raise ConfigError(f"cannot read {file}: {flaw}; correct {place}") from flaw
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
                f"{file} is empty; perhaps it is just being written. To "
                "configure nothing, put a comment into it"
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
    """Return what a file holds, at most `LARGEST_BYTES`. Raises OSError.

    may_wait: it may be a pipe, such as a shell makes of <(COMMAND). A service that runs never
    waits for what may not come.
    """
    if not may_wait:
        return read_within(file, LARGEST_BYTES)
    with file.open("rb") as opened:
        content = opened.read(LARGEST_BYTES + 1)
    if len(content) > LARGEST_BYTES:
        raise TooLarge(errno.EFBIG, os.strerror(errno.EFBIG), str(file))
    return content


def _text_of(content: bytes) -> str:
    """The text of a file, without the mark that editors of Windows put before UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        # Also UTF-32, and UTF-16 without a mark, of what begins with a letter of ASCII.
        raise _NotUtf8
    return content.decode("utf-8-sig")


def _of_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    """Yield what is set by variables; an empty one counts as none."""
    for variable, (section, key) in variables().items():
        if environ.get(variable):
            yield _Given(variable, section, key, environ[variable])


def _of_flags(overrides: Mapping[str, object]) -> Iterator[_Given]:
    """A flag that may be repeated gives a list, and no text of it is split."""
    places = {name.removeprefix(PREFIX).lower(): place for name, place in variables().items()}
    for name, value in overrides.items():
        given = [str(part) for part in value] if isinstance(value, tuple | list) else str(value)
        yield _Given(f"--{name.replace('_', '-')}", *places.get(name, ("service", name)), given)


def _slips(environ: Mapping[str, str]) -> Iterator[str]:
    known = {*variables(), FILE_VARIABLE}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            meant = _renamed(name) or closest(
                name.removeprefix(PREFIX), _without_prefix(known), _SLIP
            )
            if meant:
                yield f"{name}: there is no such variable, did you mean {PREFIX}{meant}?"


def _renamed(variable: str) -> str | None:
    """Return the name without its prefix of a variable that had another one, if it is one."""
    name = variable.removeprefix(PREFIX)
    for before, now in RENAMED.items():
        if name.endswith(before.upper()):
            return name.removesuffix(before.upper()) + now.upper()
    return None


def _without_prefix(names: set[str]) -> list[str]:
    return sorted(name.removeprefix(PREFIX) for name in names)


def _lay_over(values: dict[str, Any], places: dict[KeyPath, str], given: _Given) -> None:
    table = values.setdefault(given.section, {})
    # Where it is something else, that is what will be told.
    if isinstance(table, dict):
        field = tables()[given.section].model_fields.get(given.key)
        table[given.key] = (
            form_of(field).read(given.value)
            if field and isinstance(given.value, str)
            else given.value
        )
        places[given.section, given.key] = given.place


def _validated(
    values: dict[str, Any], places: Mapping[KeyPath, str], file: Path | None, slips: list[str]
) -> Config:
    try:
        config = Config.model_validate({name: {} for name in tables()} | values)
    except ValidationError as error:
        raise error_of(file, [*slips, *explained(error, places)]) from None
    contradicting = [
        f"{places.get(path) or key_name(path)}: {what}" for path, what in contradictions(config)
    ]
    if slips or contradicting:
        raise error_of(file, [*slips, *contradicting])
    return config
