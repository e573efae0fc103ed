"""Tells whether others than this user and root can change what a path leads to. Blocking.

Whoever can write to a directory can put another file in the place of one that was checked, so
all of a path counts: each directory from the root down, and where links lead. In a directory
with the sticky bit, such as /tmp, others can make files, but not replace those that are there.

A user that is not in the user database is one that a container runs with (Kubernetes' runAsUser):
nobody else is there, and its volumes can be written by everybody. For it no directory counts.

Not looked at: access lists of macOS and of NFS.
"""

import grp
import os
import pwd
import stat
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import psutil

ROOT = 0
DARWIN_ADMIN = 80
"""The group of macOS whose members may become root."""

LAST_OF_SYSTEM = 999
"""The last number that systems give to groups of their own."""

MOST_LINKS = 40
"""As many as the system follows."""

MOST_FILES = 10_000
"""Files that are looked at, as by the check of a model's code; what has more is refused."""

_ACL = "system.posix_acl_access"
_ACL_VERSION_BYTES, _ACL_ENTRY = 4, struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 0x02, 0x08, 2


@dataclass(frozen=True, slots=True)
class Writable:
    """A path that other users can write to, the reason, and the remedy of its owner."""

    path: Path
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.why}; {self.remedy}"


def is_unlisted(user: int) -> bool:
    """Return whether a user is not in the user database, as that is now."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        return True
    return False


@dataclass(slots=True)
class Writers:
    """One check of some paths.

    trusted: directories below which nothing is looked at, as the operator says; user: whose
    processes are to use what the paths lead to.
    """

    trusted: tuple[Path, ...] = ()
    user: int = field(default_factory=os.geteuid)
    _sound: set[str] = field(default_factory=set)
    _is_alone: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_alone = is_unlisted(self.user)

    def flaw(self, path: Path) -> Writable | None:
        """Return what others could write to change what `path` is, or None.

        `path` is absolute; nothing that is missing counts. Raises OSError.
        """
        if self._is_trusted(path):
            return None
        return next(self._on_the_way(path), None)

    def flaw_below(self, directory: Path) -> Writable | None:
        """Return the same for a directory, or file, and all that is in it. Raises OSError.

        In a directory whose files are taken by what they are called, others may make none.
        A link to a directory is as good as that one.
        """
        if self._is_trusted(directory):
            return None
        found = self.flaw(directory)
        seen, entered = 0, set[tuple[int, int]]()
        left = [directory] if directory.is_dir() else []
        while left and found is None:
            current = left.pop()
            status = current.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            found = self._flaw_of(current, status, sticky_is_enough=False)
            # What cannot be listed is told by the check of its code.
            with suppress(PermissionError), os.scandir(current) as entries:
                for entry in islice(entries, MOST_FILES - seen + 1):
                    seen += 1
                    if is_directory(entry):
                        left.append(Path(entry))
                    found = found or self.flaw(Path(entry))
            if seen > MOST_FILES:
                found = found or _too_many(directory)
        return found

    def _is_trusted(self, path: Path) -> bool:
        """Judge a path by its words alone, since where links lead others could change."""
        return ".." not in path.parts and any(path.is_relative_to(each) for each in self.trusted)

    def _on_the_way(self, path: Path) -> Iterator[Writable]:
        """Each thing that others can write, from the root to `path`, by way of links."""
        left = [*reversed(path.parts[1:])]
        current, links = "/", 0
        yield from self._checked(current)
        while left:
            part = left.pop()
            if part == "..":
                current = os.path.dirname(current)  # noqa: PTH120
                continue
            current = os.path.join(current, part)  # noqa: PTH118
            if current in self._sound:
                continue
            try:
                status = os.lstat(current)
            except (FileNotFoundError, NotADirectoryError):
                return
            if stat.S_ISLNK(status.st_mode):
                links += 1
                yield from self._of_link(current, status)
                target = os.readlink(current)  # noqa: PTH115
                if links > MOST_LINKS:
                    return
                current = "/" if target.startswith("/") else os.path.dirname(current)  # noqa: PTH120
                left += reversed([part for part in target.split("/") if part not in ("", ".")])
            else:
                yield from self._checked(current, status)

    def _of_link(self, path: str, status: os.stat_result) -> Iterator[Writable]:
        """Nobody can change a link, but its owner can replace it in a directory like /tmp."""
        is_sticky = os.lstat(os.path.dirname(path)).st_mode & stat.S_ISVTX  # noqa: PTH120
        if is_sticky and not self._is_ours(status.st_uid):
            yield _of_owner(Path(path), status)

    def _checked(self, path: str, status: os.stat_result | None = None) -> Iterator[Writable]:
        if path in self._sound:
            return
        found = self._flaw_of(Path(path), status or os.lstat(path))
        if found is None:
            self._sound.add(path)
        else:
            yield found

    def _flaw_of(
        self, path: Path, status: os.stat_result, *, sticky_is_enough: bool = True
    ) -> Writable | None:
        found = self._by_mode(path, status, sticky_is_enough=sticky_is_enough)
        return None if found is None or self._does_not_count(path) else found

    def _by_mode(
        self, path: Path, status: os.stat_result, *, sticky_is_enough: bool
    ) -> Writable | None:
        if not self._is_ours(status.st_uid):
            return _of_owner(path, status)
        is_directory = stat.S_ISDIR(status.st_mode)
        is_sticky = is_directory and status.st_mode & stat.S_ISVTX
        if (is_sticky and sticky_is_enough) or (is_directory and self._is_alone):
            return None
        if status.st_mode & stat.S_IWOTH:
            return Writable(path, "can be written by everybody", f"chmod o-w '{path}'")
        if status.st_mode & stat.S_IWGRP:
            return self._of_group(path, status.st_gid)
        return None

    def _of_group(self, path: Path, gid: int) -> Writable | None:
        """Look at the group, and at an access list: what that can give is at most those bits."""
        entries = list(_access_list(path))
        for tag, who in entries:
            other_user = tag == _ACL_USER and not self._is_ours(who)
            if other_user or (tag == _ACL_GROUP and not self._is_private(who)):
                why = f"can be written by others ({'user' if other_user else 'group'} {who})"
                return Writable(path, why, f"setfacl -b '{path}'")
        if self._is_private(gid):
            return None
        why = f"can be written by its group {_group_name(gid)}"
        return Writable(path, why, f"chmod g-w '{path}'")

    def _is_ours(self, uid: int) -> bool:
        if uid in (ROOT, self.user):
            return True
        if sys.platform == "darwin":
            return _is_administrator(uid)
        return uid == _unmapped_user()

    def _is_private(self, gid: int) -> bool:
        """Whether a group has no other members, as far as can be told.

        So it is with root's, the user's own of the same name, and one of the system's in which
        nobody is. Of others a directory service may have members that it does not list.
        """
        if gid == ROOT or (sys.platform == "darwin" and gid == DARWIN_ADMIN):
            return True
        with suppress(KeyError):
            group, us = grp.getgrgid(gid), {pwd.getpwuid(self.user).pw_name, "root"}
            if not set(group.gr_mem) <= us:
                return False
            return group.gr_name in us or (gid <= LAST_OF_SYSTEM and _first_members(gid) <= us)
        return False

    def _does_not_count(self, path: Path) -> bool:
        """Whether nobody can write there after all, or the disk keeps no owners at all."""
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return True
        return self.user != ROOT and _keeps_no_owners(path)


def first_flaw(paths: Iterable[Path], trusted: tuple[Path, ...] = ()) -> Writable | None:
    """Return what others could write to change what any of these paths is. Raises OSError."""
    writers = Writers(trusted)
    return next((found for path in paths if (found := writers.flaw(path))), None)


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory or a link that leads to one."""
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads round in a circle, or where nobody may look.
        return False


def _too_many(directory: Path) -> Writable:
    why = f"has more than {MOST_FILES} files, so that not all could be looked at"
    return Writable(directory, why, "remove those that do not belong to it")


def _of_owner(path: Path, status: os.stat_result) -> Writable:
    owner = _user_name(status.st_uid)
    return Writable(path, f"belongs to another user ({owner})", f"chown {os.geteuid()} '{path}'")


def _access_list(path: Path) -> Iterator[tuple[int, int]]:
    """The users and groups that may write by an access list, as tags and numbers. Linux."""
    if sys.platform != "linux":
        return
    try:
        raw = os.getxattr(path, _ACL)
    except OSError:
        return
    for tag, permissions, who in _ACL_ENTRY.iter_unpack(raw[_ACL_VERSION_BYTES:]):
        if permissions & _ACL_WRITE and tag in (_ACL_USER, _ACL_GROUP):
            yield tag, who


def _first_members(gid: int) -> set[str]:
    """The users of whom this is the first group."""
    return {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}


def _unmapped_user() -> int | None:
    """Return as whom all who are unknown here are shown, in a namespace of users without root.

    None elsewhere. There the files of the system itself are shown as theirs.
    """
    try:
        maps = [line.split() for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if any(int(first) == ROOT for first, _, _ in maps):
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text())
    except (OSError, ValueError):
        return None


def _is_administrator(uid: int) -> bool:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name in grp.getgrgid(DARWIN_ADMIN).gr_mem
    return False


def _keeps_no_owners(path: Path) -> bool:
    """Whether the system takes everybody for the owner there, as macOS does on exFAT."""
    mounted = [
        each
        for each in psutil.disk_partitions(all=True)
        if path.is_relative_to(each.mountpoint) and "ignore-ownership" in each.opts
    ]
    return bool(mounted)


def _user_name(uid: int) -> str:
    with suppress(KeyError):
        return f"{pwd.getpwuid(uid).pw_name}, uid {uid}"
    return f"uid {uid}"


def _group_name(gid: int) -> str:
    with suppress(KeyError):
        return grp.getgrgid(gid).gr_name
    return str(gid)
