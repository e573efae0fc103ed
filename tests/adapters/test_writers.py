"""What others can write, from the root to a file."""

import errno
import grp
import os
import pwd
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pool_service.adapters.system import writers
from pool_service.adapters.system.writers import WriterCheck, first_flaw

is_root = os.geteuid() == 0
needs_root = pytest.mark.skipif(not is_root, reason="only root gives files away")
OTHER = 65533
UNLISTED = 2**31 - 7


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "models" / "model"
    directory.mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "below").mkdir()
    for each in (tmp_path, tmp_path / "models", directory, directory / "below"):
        each.chmod(0o755)
    return directory


def flaw(path: Path, *trusted: Path, user: int | None = None) -> str:
    looked = WriterCheck(trusted) if user is None else WriterCheck(trusted, user)
    return str(looked.flaw_below(path) or "")


def test_what_only_we_and_root_can_write_is_sound(model: Path) -> None:
    assert flaw(model) == ""
    assert first_flaw([model / "config.json", model / "missing", Path("/")]) is None


@pytest.mark.parametrize("name", ["", "config.json", "below", "..", "../.."])
def test_what_everybody_can_write_is_not(model: Path, name: str) -> None:
    open_to_all = Path(os.path.normpath(model / name))
    open_to_all.chmod(0o777)
    assert flaw(model) == f"{open_to_all} can be written by everybody; chmod o-w '{open_to_all}'"


@needs_root
@pytest.mark.parametrize("name", ["", "config.json", "below", "..", "../.."])
def test_what_belongs_to_another_user_is_not(model: Path, name: str) -> None:
    theirs = Path(os.path.normpath(model / name))
    os.chown(theirs, OTHER, -1)
    assert flaw(model).startswith(f"{theirs} belongs to another user (uid {OTHER}); chown 0 ")


def test_for_a_user_of_a_container_who_is_in_no_database_open_directories_are_sound(
    model: Path,
) -> None:
    for place in (model.parent.parent, model.parent, model):
        place.chmod(0o777)
    assert WriterCheck(user=UNLISTED).flaw_below(model) is None
    (model / "config.json").chmod(0o666)
    found = str(WriterCheck(user=UNLISTED).flaw_below(model))
    assert found.startswith(f"{model / 'config.json'} can be written")


def test_who_is_in_the_user_database_is_not_alone() -> None:
    assert writers.is_unlisted(UNLISTED)
    assert not writers.is_unlisted(0)


@needs_root
def test_what_belongs_to_root_is_sound_for_everybody(model: Path) -> None:
    assert flaw(model, user=OTHER) == ""
    os.chown(model, OTHER, -1)
    assert flaw(model, user=OTHER) == ""
    assert flaw(model, user=OTHER - 1) != ""


def test_in_a_directory_like_tmp_what_is_ours_cannot_be_replaced(model: Path) -> None:
    model.parent.chmod(0o1777)
    assert flaw(model) == ""
    assert first_flaw([model.parent]) is None


def test_a_model_directory_like_tmp_could_be_given_further_files(model: Path) -> None:
    model.chmod(0o1777)
    assert "can be written by everybody" in flaw(model)


@needs_root
def test_what_is_anothers_in_a_directory_like_tmp_is_not_sound(model: Path) -> None:
    model.parent.chmod(0o1777)
    link = model.parent / "link"
    link.symlink_to(model)
    assert flaw(link) == ""
    os.chown(link, OTHER, -1, follow_symlinks=False)
    assert flaw(link).startswith(f"{link} belongs to another user")
    model.parent.chmod(0o755)
    # Nobody can change a link, nor replace it here.
    assert flaw(link) == ""


def test_each_place_on_the_way_of_a_link_counts(tmp_path: Path, model: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "blobs").mkdir(parents=True)
    (elsewhere / "blobs" / "weights").touch()
    (elsewhere / "link").symlink_to("blobs")
    (model / "model.safetensors").symlink_to("../../elsewhere/link/weights")
    elsewhere.chmod(0o755)
    assert flaw(model) == ""
    for place in (elsewhere / "blobs" / "weights", elsewhere / "blobs", elsewhere):
        was = place.stat().st_mode
        place.chmod(was | 0o002)
        assert flaw(model).startswith(f"{place} can be written by everybody"), place
        place.chmod(was)
    assert flaw(model) == ""


def test_links_that_lead_nowhere_or_in_a_circle_end(model: Path) -> None:
    (model / "gone").symlink_to("/nowhere/at/all")
    (model / "round").symlink_to("round")
    (model / "there").symlink_to("and")
    (model / "and").symlink_to("there")
    assert flaw(model) == ""


@pytest.mark.parametrize("depth", [0, 1])
def test_what_is_in_a_directory_that_a_link_leads_to_counts(
    tmp_path: Path, model: Path, depth: int
) -> None:
    """A loader of `adapters/config.json` does not mind that `adapters` is a link."""
    inner = tmp_path / "elsewhere" / "in"
    inner.mkdir(parents=True)
    (tmp_path / "elsewhere").chmod(0o755)
    inner.chmod(0o777)
    (model / "below" / "link").symlink_to([inner, inner.parent][depth])
    (inner / "back").symlink_to(model)
    assert str(inner) in flaw(model) or "below/link" in flaw(model)
    inner.chmod(0o755)
    assert flaw(model) == ""


def test_links_that_lead_back_are_followed_once(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_FILES", 20)
    for name in ("back", "back again"):
        (model / "below" / name).symlink_to("..")
    assert flaw(model) == ""


def test_nothing_hides_behind_more_files_than_are_looked_at(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_FILES", 20)
    for number in range(18):
        (model / "below" / str(number)).touch(0o644)
    assert flaw(model) == ""
    (model / "below" / "one more").touch(0o644)
    assert "has more than 20 files" in flaw(model)


def test_what_the_operator_trusts_counts_by_its_words(model: Path) -> None:
    model.chmod(0o777)
    assert flaw(model, model) == flaw(model, model.parent) == ""
    assert flaw(model, model / "below") != ""
    assert flaw(model / "below" / ".." / ".." / "model", model / "below") != ""
    link = model.parent / "link"
    link.symlink_to(model)
    assert flaw(link, model) != ""
    assert flaw(link, link) == ""


@pytest.mark.parametrize(
    ("name", "number", "members", "sound"),
    [
        ("me", 4000, [], True),
        ("me", 4000, ["me", "root"], True),
        ("me", 4000, ["me", "somebody"], False),
        ("everybody", 4000, [], False),
        ("staff", 50, [], True),
        ("staff", 999, [], True),
        ("staff", 1000, [], False),
        ("admin", 80, ["somebody"], sys.platform == "darwin"),
        ("staff", 50, ["somebody"], False),
        ("users", 100, [], False),
    ],
)
def test_a_group_of_ones_own_is_nobody_else(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
    members: list[str],
    sound: bool,
) -> None:
    me = SimpleNamespace(pw_name="me", pw_gid=4000)
    other = SimpleNamespace(pw_name="somebody", pw_gid=100)
    group = SimpleNamespace(gr_name=name, gr_mem=members)
    monkeypatch.setattr(grp, "getgrgid", lambda _: group)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: me)
    monkeypatch.setattr(pwd, "getpwall", lambda: [me, other])
    looked = WriterCheck()
    found = looked._group_flaw(model, number)
    assert (found is None) == sound
    assert found is None or found.remedy == f"chmod g-w '{model}'"


def test_a_group_that_is_not_known_is_others(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(grp, "getgrgid", unknown)
    assert WriterCheck()._group_flaw(model, 4000) is not None
    assert WriterCheck()._group_flaw(model, 0) is None


@pytest.mark.skipif(sys.platform != "linux", reason="access lists as Linux keeps them")
@pytest.mark.parametrize(
    ("tag", "permissions", "sound"), [(2, 6, False), (2, 4, True), (8, 7, False)]
)
def test_who_may_write_by_an_access_list_counts(
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    tag: int,
    permissions: int,
    sound: bool,
) -> None:
    entries = [(1, 7, 2**32 - 1), (tag, permissions, OTHER), (4, 7, 2**32 - 1), (16, 7, 2**32 - 1)]
    raw = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    monkeypatch.setattr(os, "getxattr", lambda *_: raw)
    monkeypatch.setattr(WriterCheck, "_is_private_group", lambda _, gid: gid != OTHER)
    (model / "config.json").chmod(0o664)
    assert (flaw(model) == "") == sound
    assert sound or "setfacl" in flaw(model)


@pytest.mark.skipif(sys.platform != "linux", reason="access lists as Linux keeps them")
@pytest.mark.parametrize(
    ("tag", "who", "why"),
    [
        (2, os.geteuid(), ""),
        (2, OTHER, f"can be written by others (user {OTHER})"),
        # The id of a trusted user says nothing of the group with that id, and the other way round.
        (8, os.geteuid(), f"can be written by others (group {os.geteuid()})"),
        (8, OTHER - 1, ""),
        (8, OTHER, f"can be written by others (group {OTHER})"),
    ],
)
def test_an_access_list_may_name_ourselves_and_a_group_of_ones_own(
    model: Path, monkeypatch: pytest.MonkeyPatch, tag: int, who: int, why: str
) -> None:
    raw = struct.pack("<IHHIHHI", 2, 1, 7, 2**32 - 1, tag, 6, who)
    monkeypatch.setattr(os, "getxattr", lambda *_: raw)
    monkeypatch.setattr(WriterCheck, "_is_private_group", lambda _, gid: gid == OTHER - 1)
    found = WriterCheck()._group_flaw(model, OTHER - 1)
    assert (found.why if found else "") == why


def test_on_a_disk_that_cannot_be_written_nobody_can(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.chmod(0o777)
    status = SimpleNamespace(f_flag=os.ST_RDONLY)
    monkeypatch.setattr(os, "statvfs", lambda _: status)
    assert flaw(model) == ""


def test_a_disk_that_keeps_no_owners_is_ours_unless_we_are_root(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = [
        SimpleNamespace(mountpoint="/", opts="rw,local"),
        SimpleNamespace(mountpoint=str(model.parent), opts="rw,local,ignore-ownership"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)  # noqa: A006
    monkeypatch.setattr(WriterCheck, "_is_trusted_user", lambda *_: True)
    listed = next(user.pw_uid for user in pwd.getpwall() if user.pw_uid)
    model.chmod(0o777)
    assert flaw(model, user=listed) == ""
    assert flaw(model, user=0) != ""
    model.parent.parent.chmod(0o777)
    assert flaw(model, user=listed) != ""


def test_where_only_some_users_are_known_the_others_are_the_systems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = {"/proc/self/uid_map": "0 0 4294967295\n", "/proc/sys/kernel/overflowuid": "65534\n"}
    monkeypatch.setattr(Path, "read_text", lambda path: told[str(path)])
    assert writers._unmapped_user() is None
    told["/proc/self/uid_map"] = "1000 1000 1\n"
    assert writers._unmapped_user() == 65534


def test_what_cannot_be_looked_at_is_told(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "lstat", refuse)
    with pytest.raises(PermissionError):
        first_flaw([model])


@pytest.mark.parametrize(("most", "found"), [(2, True), (1, False)])
def test_as_many_links_are_followed_as_the_system_follows(
    tmp_path: Path, model: Path, most: int, found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "MAX_LINKS", most)
    (tmp_path / "first").symlink_to("second")
    (tmp_path / "second").symlink_to(model / "config.json")
    (model / "config.json").chmod(0o666)
    assert (first_flaw([tmp_path / "first"]) is not None) is found


@pytest.mark.skipif(sys.platform != "linux", reason="user namespaces are Linux's")
def test_where_only_some_users_are_known_the_systems_own_is_trusted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writers, "_unmapped_user", lambda: OTHER)
    assert WriterCheck()._is_trusted_user(OTHER)
    assert not WriterCheck()._is_trusted_user(OTHER - 1)
