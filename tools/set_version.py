"""Writes the version of the service and of its clients into every file that needs its own copy.

python tools/set_version.py          print the version
python tools/set_version.py X.Y.Z    make it X.Y.Z in all files

The version in pyproject.toml is the source. The Go client has none: its tag is its version.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "pyproject.toml"
# Python, npm, Cargo and Go read these alike; each spells a pre-release in its own way.
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class Place(NamedTuple):
    """A file with the version in it."""

    path: str
    pattern: re.Pattern[str]
    """Its only group is the version."""
    times: int = 1


_TOML = re.compile(r'(?m)^version = "([^"]+)"$')
PLACES = (
    Place(SOURCE, _TOML),
    Place("clients/python/pyproject.toml", _TOML),
    Place("clients/rust/Cargo.toml", _TOML),
    Place("clients/typescript/package.json", re.compile(r'(?m)^  "version": "([^"]+)"')),
    Place(
        "clients/typescript/package-lock.json",
        re.compile(r'"name": "pool-service-client",\n +"version": "([^"]+)"'),
        times=2,
    ),
    Place("clients/typescript/src/version.ts", re.compile(r'VERSION = "([^"]+)"')),
    # The example of a tag.
    Place("docs/how-to/stubs.md", re.compile(r"#tag=v([^,]+),")),
)


class VersionError(Exception):
    """Why no version was read or written, and what to do about it."""


def versions(root: Path = ROOT) -> dict[str, list[str]]:
    """Return the versions that stand in each file, by its path."""
    return {place.path: place.pattern.findall((root / place.path).read_text()) for place in PLACES}


def version(root: Path = ROOT) -> str:
    """Return the version in pyproject.toml."""
    return versions(root)[SOURCE][0]


def set_version(new: str, root: Path = ROOT) -> None:
    """Write `new` into every file, or into none.

    Raises VersionError if `new` is no version, or if a file does not have the version where it
    should.
    """
    if not VERSION.fullmatch(new):
        raise VersionError(f"{new!r} is no version: write three numbers, as in 1.2.3")
    texts = {}
    for place in PLACES:
        path = root / place.path
        text, times = place.pattern.subn(lambda found: _with(found, new), path.read_text())
        if times != place.times:
            raise VersionError(
                f"{place.path} has the version in {times} places and not in {place.times}: "
                "correct PLACES in tools/set_version.py"
            )
        texts[path] = text
    for path, text in texts.items():
        path.write_text(text)


def _with(found: re.Match[str], new: str) -> str:
    start, end = (found.span(1)[side] - found.start() for side in (0, 1))
    return found[0][:start] + new + found[0][end:]


def main(arguments: Sequence[str]) -> int:
    """Set the version, or print it."""
    try:
        match arguments:
            case []:
                print(version())
            case [new] if not new.startswith("-"):
                set_version(new)
            case _:
                print("usage: python tools/set_version.py [X.Y.Z]", file=sys.stderr)
                return 2
    except (VersionError, OSError) as error:
        print(f"set_version: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
