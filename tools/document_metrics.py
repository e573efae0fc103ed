"""Writes the tables of metrics into their page, from the families that programs write.

A table is between `<!-- families -->`, or `<!-- families: front -->`, and
`<!-- end of families -->`. With --check nothing is written; a table that is not up to date fails.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pool_service.fleet.metrics.families import FAMILIES as OF_FRONT
from pool_service.metrics.families import FAMILIES, Family

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/reference/metrics.md"
BLOCK = re.compile(r"(<!-- families(.*?) -->\n).*?(?=<!-- end of families -->)", re.DOTALL)
TABLES = {"": FAMILIES, ": front": OF_FRONT}


def table(families: Sequence[Family]) -> Iterator[str]:
    """The lines of a table."""
    yield "| `pool_service_` | type | labels | meaning |\n| --- | --- | --- | --- |\n"
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family.labels)
        yield f"| `{family.name}` | {family.kind} | {labels} | {family.help} |\n"


def main(arguments: Sequence[str]) -> int:
    """Write or check the page; return the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python tools/document_metrics.py [--check]", file=sys.stderr)
        return 2
    text = PAGE.read_text()
    filled = BLOCK.sub(lambda match: match[1] + "".join(table(TABLES[match[2]])), text)
    if filled != text and arguments:
        print(f"{PAGE.name}: its table of metrics is out of date; make docs", file=sys.stderr)
        return 1
    PAGE.write_text(filled)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
