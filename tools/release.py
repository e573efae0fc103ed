"""Says whether a tag may become a release, and what its notes are.

python -m tools.release check vX.Y.Z [OWNER/NAME]   fail unless everything agrees with the tag
python -m tools.release notes vX.Y.Z                print what the changelog says of it

OWNER/NAME is the repository on GitHub, which the Go module is named by.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tools.set_version import ROOT, versions


class ReleaseError(Exception):
    """Why the tag is no release, and what to do about it."""


def check(tag: str, repository: str | None = None, root: Path = ROOT) -> None:
    """Raise ReleaseError unless versions, changelog and Go module agree with `tag`."""
    wrong = {
        path for path, found in versions(root).items() if set(found) != {tag.removeprefix("v")}
    }
    if wrong:
        raise ReleaseError(
            f"{', '.join(sorted(wrong))}: not of version {tag}. "
            f"Run python3 tools/set_version.py {tag.removeprefix('v')}, commit, and tag that"
        )
    notes(tag, root)
    module = re.search(r"(?m)^module (\S+)$", (root / "clients/go/go.mod").read_text())
    wanted = f"github.com/{repository}/clients/go"
    if repository and (not module or module[1] != wanted):
        raise ReleaseError(
            f"clients/go/go.mod does not name its module {wanted}, so nobody could get it: "
            "change the name there and in the imports"
        )


def notes(tag: str, root: Path = ROOT) -> str:
    """Return what CHANGELOG.md says under the version of `tag`.

    Raises ReleaseError if the version has no section with a date, or an empty one.
    """
    version = re.escape(tag.removeprefix("v"))
    heading = rf"^## {version} - \d{{4}}-\d\d-\d\d\n"
    section = re.compile(rf"{heading}(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    found = section.search((root / "CHANGELOG.md").read_text())
    if not found or not found[1].strip():
        raise ReleaseError(
            f"CHANGELOG.md says nothing under '## {tag.removeprefix('v')} - YYYY-MM-DD': "
            "give what is under Unreleased that heading"
        )
    return found[1].strip()


def main(arguments: Sequence[str]) -> int:
    """Check a tag, or print its notes."""
    try:
        match arguments:
            case ["check", tag]:
                check(tag)
            case ["check", tag, repository]:
                check(tag, repository)
            case ["notes", tag]:
                print(notes(tag))
            case _:
                print((__doc__ or "").strip(), file=sys.stderr)
                return 2
    except (ReleaseError, OSError) as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
