"""A tag becomes a release only if everything in the repository says the same version."""

import shutil
from pathlib import Path

import pytest

from tools.release import ReleaseError, check, notes
from tools.set_version import PLACES, set_version

CHANGELOG = """# Changelog

## Unreleased

### Added

- what comes later

## 1.2.3 - 2026-01-31

### Fixed

- what was wrong

## 1.2.2 - 2026-01-01

- older
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = Path(__file__).resolve().parents[2]
    for path in (*(place.path for place in PLACES), "clients/go/go.mod"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, tmp_path / path)
    set_version("1.2.3", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "clients/go/go.mod").write_text("module github.com/a/b/clients/go\n")
    return tmp_path


def test_a_tag_that_all_agree_with_is_a_release(copy: Path) -> None:
    check("v1.2.3", "a/b", copy)
    check("v1.2.3", None, copy)


def test_notes_are_what_the_changelog_says_of_that_version(copy: Path) -> None:
    assert notes("v1.2.3", copy) == "### Fixed\n\n- what was wrong"
    assert notes("v1.2.2", copy) == "- older"


def test_a_version_that_was_forgotten_is_named(copy: Path) -> None:
    package = copy / "clients/typescript/package.json"
    package.write_text(package.read_text().replace("1.2.3", "1.2.2"))
    with pytest.raises(ReleaseError, match=r"^clients/typescript/package\.json: not of"):
        check("v1.2.3", None, copy)


@pytest.mark.parametrize(
    "text",
    [
        "## 1.2.3 (unreleased)\n\n- a\n",
        "## 1.2.3 - 2026-01-31\n\n## 1.2.2 - 2026-01-01\n\n- a\n",
        "",
    ],
)
def test_a_version_of_which_the_changelog_says_nothing_is_none(copy: Path, text: str) -> None:
    (copy / "CHANGELOG.md").write_text(text)
    with pytest.raises(ReleaseError, match="says nothing under"):
        check("v1.2.3", None, copy)


def test_a_go_module_of_another_name_could_not_be_got(copy: Path) -> None:
    with pytest.raises(ReleaseError, match="name its module github"):
        check("v1.2.3", "c/d", copy)
