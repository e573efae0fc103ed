"""The types of the configuration's values, with their validators.

Each type carries a Form, which describes its values to the user and parses the text of a variable
or flag. A validator raises ValueError for a value of another form (the message then has the Form's
description), or Flaw with a message of its own.
"""

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pool_service.address import Address, AddressError
from pool_service.logging_setup import LogFormat, LogLevel
from pool_service.paths import PathFlaw, absolute

MAX_COUNT = 1_000_000
SHORTEST_HISTORY = 64
"""Changes. One start makes several at once, so a shorter history would lose Watches often."""

_SECTION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Flaw(ValueError):
    """A value that is not valid; the message says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """The form of a type's values.

    kind: a word or two for the documentation.
    wanted: the end of an error message after "must be".
    read: parses the text of a variable or flag to the value that the file would have; returns
    text that it cannot parse unchanged, for the validator to refuse.
    """

    kind: str
    wanted: str
    read: Callable[[str], object] = str


@dataclass(frozen=True, slots=True)
class DefaultText:
    """The documentation's text for a default that depends on the machine or on other keys."""

    text: str


# --- parsers of the text of a variable or flag ------------------------------------------


def number_of(text: str) -> object:
    """Return the int or float that a text stands for; the text if it is no number."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def switch_of(text: str) -> object:
    return {"true": True, "false": False}.get(text.lower(), text)


def split_commas(text: str) -> object:
    return [part.strip() for part in text.split(",") if part.strip()]


# --- validators -------------------------------------------------------------------------


def _directory(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ValueError
    return absolute_path(str(value))


def absolute_path(text: str) -> Path:
    try:
        return absolute(text)
    except PathFlaw as error:
        raise Flaw(str(error)) from error


def _address(text: str) -> str:
    try:
        return Address.parse(text).text
    except AddressError as error:
        raise Flaw(str(error).rstrip(".")) from error


def _local_address(text: str) -> str:
    """Check an address of the HTTP listener; empty: none."""
    address = _address(text) if text else ""
    if address and not Address.parse(address).is_local:
        raise Flaw(
            f"{text} can be reached from other machines, and this listener has no password; write "
            "127.0.0.1:PORT, [::1]:PORT or unix:PATH"
        )
    return address


def _listen_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if not addresses:
        raise ValueError
    without_duplicates(tuple(address for address in addresses if not _is_any_port(address)))
    return addresses


def without_duplicates(texts: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({text for text in texts if texts.count(text) > 1})
    if twice:
        raise Flaw(f"{', '.join(twice)} is listed more than once")
    return texts


def _is_any_port(address: str) -> bool:
    return not address.startswith("unix:") and int(address.rpartition(":")[2]) == 0


def section_name(name: str) -> str:
    """Return a name that a section may have, and a member of a fleet. Raises Flaw."""
    if _SECTION_NAME.fullmatch(name) is None:
        raise Flaw("the name may have only ASCII letters, digits and . _ -, at most 64")
    return name


# --- types ------------------------------------------------------------------------------

Count = Annotated[
    int,
    Field(strict=True, ge=1, le=MAX_COUNT),
    Form("whole number", f"a whole number from 1 to {MAX_COUNT}", number_of),
]
HistoryLength = Annotated[
    int,
    Field(strict=True, ge=SHORTEST_HISTORY, le=MAX_COUNT),
    Form(
        "whole number",
        f"a whole number from {SHORTEST_HISTORY} to {MAX_COUNT}",
        number_of,
    ),
]
Switch = Annotated[bool, Field(strict=True), Form("switch", "true or false", switch_of)]
Directory = Annotated[Path, BeforeValidator(_directory), Form("directory", "a path in quotes")]
Addresses = Annotated[
    tuple[Annotated[str, Field(strict=True), AfterValidator(_address)], ...],
    AfterValidator(_listen_addresses),
    Form("list of addresses", 'a list of addresses, such as ["127.0.0.1:50051"]', split_commas),
]
LocalAddress = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_local_address),
    Form("address", 'an address on this machine, such as "127.0.0.1:9464" or "unix:PATH"'),
]
Format = Annotated[LogFormat, Form('"text" or "json"', '"text" or "json"', str.lower)]
Level = Annotated[
    LogLevel,
    Form(
        '"debug", "info", "warning" or "error"', '"debug", "info", "warning" or "error"', str.lower
    ),
]
Directories = Annotated[
    tuple[Annotated[Path, BeforeValidator(_directory)], ...],
    Form("list of directories", 'a list of directories, such as ["/data/models"]', split_commas),
]
SectionName = Annotated[str, AfterValidator(section_name)]


class Section(BaseModel):
    """A table of the file: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
