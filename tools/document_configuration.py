"""Writes the tables of configuration keys into their pages, from the models' descriptions.

A page has a table between `<!-- keys: SECTION -->` and `<!-- end of keys -->` for each section. One
after `<!-- variables: SECTION -->` has the variables alone, for a section that another page
describes. With --check nothing is written; a table that is not up to date fails.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pool_service.config.errors import example_of, form_of, named_tables, tables
from pool_service.config.layout import Layout
from pool_service.config.loading import variables
from pool_service.config.schema import DefaultsSection, ModelSection
from pool_service.config.service_source import SERVICE
from pool_service.config.types import DefaultText
from pool_service.core.types import FOREVER
from pool_service.fleet.config.loading import FRONT

ROOT = Path(__file__).resolve().parent.parent
PAGES: dict[Path, Layout[Any]] = {
    ROOT / "docs/reference/configuration.md": SERVICE,
    ROOT / "docs/reference/fleet-configuration.md": FRONT,
}
# Its keys are those of [runtime].
UNDESCRIBED = "runtimes"

BLOCK = re.compile(
    r"(?<=<!-- )(keys|variables)(: )(\w+)( -->\n).*?(?=<!-- end of keys -->)", re.DOTALL
)

_MINUTE = 60
_UNITS = {"GiB": 1024**3, "MiB": 1024**2, "KiB": 1024, "B": 1}


def sections(layout: Layout[Any]) -> dict[str, type[BaseModel]]:
    named = {example_of(name): table for name, table in described(layout).items()}
    return tables(layout.root) | named


def described(layout: Layout[Any]) -> dict[str, type[BaseModel]]:
    """The tables of tables whose keys are described here."""
    named = named_tables(layout.root)
    return {name: table for name, table in named.items() if name != UNDESCRIBED}


def own_fields(table: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that are described here; a model's others are those of [defaults]."""
    inherited = DefaultsSection.model_fields if table is ModelSection else {}
    fields = table.model_fields
    return {key: field for key, field in fields.items() if key not in inherited}


def default(field: FieldInfo) -> str:
    """The default as one would write it, or in words."""
    # The last one is of the key itself, those before it of its type.
    words = next(
        (part.text for part in reversed(field.metadata) if isinstance(part, DefaultText)), None
    )
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


def reference(section: str, layout: Layout[Any]) -> Iterator[str]:
    """All there is to know of a section's keys."""
    named = {place: variable for variable, place in variables(layout).items()}
    yield from row("key", "type", "default", "meaning", "variable")
    yield from row(*["---"] * 5)
    for key, field in own_fields(sections(layout)[section]).items():
        variable = named.get((section, key))
        yield from row(
            f"`{key}`",
            form_of(field).kind,
            default(field),
            str(field.description),
            f"`{variable}`" if variable else "none",
        )


def its_variables(section: str, layout: Layout[Any]) -> Iterator[str]:
    """The variables of a section's keys."""
    yield from row("key", "variable")
    yield from row(*["---"] * 2)
    for variable, (table, key) in variables(layout).items():
        if table == section:
            yield from row(f"`{key}`", f"`{variable}`")


def row(*cells: str) -> Iterable[str]:
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"]


def filled(text: str, layout: Layout[Any] = SERVICE) -> str:
    """The document with each of its tables made anew."""

    def table(match: re.Match[str]) -> str:
        kind, colon, name, end = match.groups()
        section = example_of(name) if name in described(layout) else name
        rows = (reference if kind == "keys" else its_variables)(section, layout)
        return f"{kind}{colon}{name}{end}{''.join(rows)}"

    return BLOCK.sub(table, text)


def main(arguments: Sequence[str]) -> int:
    if arguments not in ([], ["--check"]):
        print("usage: python tools/document_configuration.py [--check]", file=sys.stderr)
        return 2
    stale = {page: new for page, layout in PAGES.items() if (new := _renewed(page, layout))}
    for page, text in stale.items():
        if arguments:
            print(f"{page.name}: its tables of keys are out of date; make docs", file=sys.stderr)
        else:
            page.write_text(text)
    return 1 if arguments and stale else 0


def _renewed(page: Path, layout: Layout[Any]) -> str | None:
    """The text of a page with its tables up to date; None if they are."""
    text = page.read_text()
    new = filled(text, layout)
    return None if new == text else new


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
