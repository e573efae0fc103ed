"""The service and its clients have one version, and one tool that sets it."""

import re
import shutil
from pathlib import Path

import pytest

from tools.set_version import PLACES, VersionError, main, set_version, version, versions


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    root = Path(__file__).resolve().parents[2]
    for place in PLACES:
        (tmp_path / place.path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / place.path, tmp_path / place.path)
    return tmp_path


def test_every_file_has_the_version_of_pyproject() -> None:
    assert versions() == {place.path: [version()] * place.times for place in PLACES}


def test_it_is_set_everywhere_and_nothing_else_changes(copy: Path) -> None:
    before = {place.path: (copy / place.path).read_text() for place in PLACES}
    was = version(copy)
    set_version("12.30.4", copy)
    assert versions(copy) == {place.path: ["12.30.4"] * place.times for place in PLACES}
    set_version(was, copy)
    assert {place.path: (copy / place.path).read_text() for place in PLACES} == before


@pytest.mark.parametrize(
    "text", ["1.2", "v1.2.3", "1.2.3rc1", "1.2.3-rc.1", "01.2.3", "1.2.3 ", ""]
)
def test_what_is_no_version_everywhere_is_refused(copy: Path, text: str) -> None:
    with pytest.raises(VersionError, match="three numbers"):
        set_version(text, copy)


def test_a_file_that_lost_its_version_leaves_all_as_they_were(copy: Path) -> None:
    last = copy / PLACES[-1].path
    last.write_text(re.sub(PLACES[-1].pattern, "", last.read_text()))
    before = version(copy)
    with pytest.raises(VersionError, match=r"in 0 places and not in 1"):
        set_version("9.9.9", copy)
    assert version(copy) == before


def test_the_tool_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == f"{version()}\n"


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 2), (["1.2"], 1), (["1", "2"], 2)])
def test_the_tool_says_what_it_wants(arguments: list[str], code: int) -> None:
    assert main(arguments) == code
