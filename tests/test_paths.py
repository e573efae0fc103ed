"""Claims about how the text of a path becomes an absolute path."""

import pwd
from pathlib import Path

import pytest

from pool_service.paths import PathFlaw, absolute, begins_a_path, home_directory

HERE = Path.cwd()
ME = pwd.getpwuid(0)
ENVIRONMENT = {"HOME": "/home/me", "A": "/a", "B": "b", "EMPTY": "", "NESTED": "$A"}


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/x/y", "/x/y"),
        ("x", str(HERE / "x")),
        ("./x", str(HERE / "x")),
        ("~", "/home/me"),
        ("~/x", "/home/me/x"),
        (f"~{ME.pw_name}/x", f"{ME.pw_dir}/x"),
        ("$A/x", "/a/x"),
        ("${A}x", "/ax"),
        ("/m/$B.gguf", "/m/b.gguf"),
        ("$B/x", str(HERE / "b/x")),
        ("/cash$$money", "/cash$money"),
        ("/a$", "/a$"),
        ("/a$(b)", "/a$(b)"),
        ("/a b/~/c", "/a b/~/c"),
        ("$NESTED", str(HERE / "$A")),
        ("/größe", "/größe"),
    ],
)
def test_a_text_means_a_path(text: str, path: str) -> None:
    assert absolute(text, ENVIRONMENT) == Path(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        (" \t", "is empty"),
        ("/x\0", "NUL"),
        ("/x ", "white space"),
        (" /x", "white space"),
        ("/x\r", "white space"),
        ("$NONE/x", "the variable NONE, which is not set"),
        ("${NONE}", "the variable NONE"),
        ("/x/$EMPTY/y", "the variable EMPTY"),
        ("~nobody-of-this-name/x", "no user of that name"),
        ("~a\udcff/x", "no user of that name"),
        ("/\udcff", r"is not UTF-8 \('/\\udcff'\)"),
    ],
)
def test_what_means_no_path_is_reported(text: str, told: str) -> None:
    with pytest.raises(PathFlaw, match=told):
        absolute(text, ENVIRONMENT)


def test_what_is_relative_to_a_directory_that_is_gone_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert absolute("/x") == Path("/x")
    with pytest.raises(PathFlaw, match="is gone"):
        absolute("x")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_in_the_environment_the_user_database_counts(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {} if home is None else {"HOME": home}
    assert home_directory(environment) is not None

    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert home_directory(environment) is None
    with pytest.raises(PathFlaw, match="no home directory"):
        absolute("~/x", environment)


@pytest.mark.parametrize("text", ["~", "~/x", "~me/x", "./x", "..", "../x", "$A/x", "${A}/x", "."])
def test_a_text_begins_as_only_a_path_does(text: str) -> None:
    assert begins_a_path(text)


@pytest.mark.parametrize("text", ["org/name", "/x", "x", "...", ".x", "$(x)", "5$", "a~/b", ""])
def test_other_texts_do_not(text: str) -> None:
    assert not begins_a_path(text)
