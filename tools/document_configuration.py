"""Writes the tables of configuration keys into their page, from the models' descriptions.

The page has a table between `<!-- keys: SECTION -->` and `<!-- end of keys -->` for each section.
With --check nothing is written; a table that is not up to date fails.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pool_service.config.errors import example_of, form_of, named_tables, tables
from pool_service.config.loading import variables
from pool_service.config.schema import DefaultsSection, ModelSection
from pool_service.config.types import DefaultText
from pool_service.core.types import FOREVER

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/configuration.md"
# Its keys are those of [runtime].
UNDESCRIBED = "runtimes"

BLOCK = re.compile(r"(?<=<!-- keys: )(\w+)( -->\n).*?(?=<!-- end of keys -->)", re.DOTALL)

_MINUTE = 60
_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}


def sections() -> dict[str, type[BaseModel]]:
    return tables() | {example_of(name): table for name, table in described().items()}


def described() -> dict[str, type[BaseModel]]:
    """The tables of tables whose keys are described here."""
    return {name: table for name, table in named_tables().items() if name != UNDESCRIBED}


def own_fields(section: str) -> dict[str, FieldInfo]:
    """The fields that are described here; a model's others are those of [defaults]."""
    table = sections()[section]
    inherited = DefaultsSection.model_fields if table is ModelSection else {}
    fields = table.model_fields
    return {key: field for key, field in fields.items() if key not in inherited}


def default(field: FieldInfo) -> str:
    """The default as one would write it, or in words."""
    words = next((part.text for part in field.metadata if isinstance(part, DefaultText)), None)
    return words or f"`{_toml(field.default, form_of(field).kind)}`"


def _toml(value: object, kind: str) -> str:
    if kind.startswith("duration"):
        return _length(float(str(value)))
    if kind.startswith("bytes"):
        return _size(int(str(value)))
    if value == ():
        return "{}" if kind.startswith("table") else "[]"
    return json.dumps(value)


def _size(count: int) -> str:
    unit = next(unit for unit in _UNITS if not count % _UNITS[unit])
    return json.dumps(f"{count // _UNITS[unit]}{unit}")


def _length(seconds: float) -> str:
    if seconds == FOREVER:
        return json.dumps("forever")
    whole_minutes = seconds >= _MINUTE and not seconds % _MINUTE
    return f'"{seconds / _MINUTE:g}m"' if whole_minutes else f'"{seconds:g}s"'


def reference(section: str) -> Iterator[str]:
    """All there is to know of a section's keys."""
    named = {place: variable for variable, place in variables().items()}
    yield from row("key", "type", "default", "meaning", "variable")
    yield from row(*["---"] * 5)
    for key, field in own_fields(section).items():
        variable = named.get((section, key))
        yield from row(
            f"`{key}`",
            form_of(field).kind,
            default(field),
            str(field.description),
            f"`{variable}`" if variable else "none",
        )


def row(*cells: str) -> Iterable[str]:
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"]


def filled(text: str) -> str:
    """The document with each of its tables made anew."""

    def table(match: re.Match[str]) -> str:
        section = example_of(match[1]) if match[1] in described() else match[1]
        return f"{match[1]}{match[2]}{''.join(reference(section))}"

    return BLOCK.sub(table, text)


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python tools/document_configuration.py [--check]", file=sys.stderr)
        return 2
    text = PAGE.read_text()
    stale = filled(text) != text
    if stale and arguments:
        print(f"{PAGE.name}: its tables of keys are out of date; make docs", file=sys.stderr)
    elif stale:
        PAGE.write_text(filled(text))
    return 1 if arguments and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
