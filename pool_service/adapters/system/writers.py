"""Checks of who can change the file at a path: only this user and root may. Blocking.

1. Every directory of the path counts, from the root down, and so do the targets of links: a user
   that can write to a directory can replace the files in it.
2. In a directory with the sticky bit, such as /tmp, others can make files, but not replace those of
   this user.
3. A user that is not in the user database is that of a container (Kubernetes' runAsUser): there are
   no other users, and everybody can write to its volumes. For such a user no directory counts.

Access lists of macOS and of NFS are not checked.
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
DARWIN_ADMIN_GID = 80
"""The group of macOS whose members may become root."""

MAX_SYSTEM_GID = 999
"""The largest number of groups that belong to the system."""

MAX_LINKS = 40
"""Links that are followed in one path, as many as Linux follows."""

MAX_FILES = 10_000
"""Files of a directory that are checked, as many as by `code_check.py`; more are a flaw."""

_ACL = "system.posix_acl_access"
_ACL_VERSION_BYTES, _ACL_ENTRY = 4, struct.Struct("<HHI")
_ACL_USER, _ACL_GROUP, _ACL_WRITE = 0x02, 0x08, 2


@dataclass(frozen=True, slots=True)
class Writable:
    """A path that other users can write to, the reason, and what the owner can do."""

    path: Path
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.path} {self.why}; {self.remedy}"


def is_unlisted(user: int) -> bool:
    """Return whether a user is not in the user database at present."""
    try:
        pwd.getpwuid(user)
    except KeyError:
        return True
    return False


@dataclass(slots=True)
class WriterCheck:
    """Checks whether other users can write to paths; does not check a sound directory twice.

    trusted: directories below which nothing is checked, by the operator's decision.
    user: the uid of the processes that will use the files.
    """

    trusted: tuple[Path, ...] = ()
    user: int = field(default_factory=os.geteuid)
    _sound: set[str] = field(default_factory=set)
    _is_only_user: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_only_user = is_unlisted(self.user)

    def flaw(self, path: Path) -> Writable | None:
        """Return the first flaw on the way to `path`, by which others could change the file there.

        None if there is none. `path` is absolute; missing files do not count. Raises OSError.
        """
        if self._is_trusted(path):
            return None
        return next(self._flaws_along(path), None)

    def flaw_below(self, directory: Path) -> Writable | None:
        """Return the first `flaw` of a directory and of everything in it, or of a file.

        None if there is none. Here the sticky bit does not suffice: others must not make new files
        either, as loaders find files by their names. Links to directories are followed. A directory
        with more than MAX_FILES files has a flaw. Raises OSError.
        """
        if self._is_trusted(directory):
            return None
        found = self.flaw(directory)
        seen, entered = 0, set[tuple[int, int]]()
        pending = [directory] if directory.is_dir() else []
        while pending and found is None:
            current = pending.pop()
            status = current.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            found = self._flaw_of(current, status, sticky_is_enough=False)
            # A directory that cannot be listed is reported by the check of the model's code.
            with suppress(PermissionError), os.scandir(current) as entries:
                for entry in islice(entries, MAX_FILES - seen + 1):
                    seen += 1
                    if is_directory(entry):
                        pending.append(Path(entry))
                    found = found or self.flaw(Path(entry))
            if seen > MAX_FILES:
                found = found or _too_many_files(directory)
        return found

    def _is_trusted(self, path: Path) -> bool:
        """Return whether a path is in a trusted directory, by its text, as links could change."""
        return ".." not in path.parts and any(path.is_relative_to(each) for each in self.trusted)

    def _flaws_along(self, path: Path) -> Iterator[Writable]:
        """Yield each flaw on the way from the root to `path`, links included."""
        pending = [*reversed(path.parts[1:])]
        current, links = "/", 0
        yield from self._flaws_at(current)
        while pending:
            part = pending.pop()
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
                yield from self._link_flaws(current, status)
                target = os.readlink(current)  # noqa: PTH115
                if links > MAX_LINKS:
                    return
                current = "/" if target.startswith("/") else os.path.dirname(current)  # noqa: PTH120
                pending += reversed([part for part in target.split("/") if part not in ("", ".")])
            else:
                yield from self._flaws_at(current, status)

    def _link_flaws(self, path: str, status: os.stat_result) -> Iterator[Writable]:
        """Yield the flaw of another user's link where, as in /tmp, that user can replace it."""
        is_sticky = os.lstat(os.path.dirname(path)).st_mode & stat.S_ISVTX  # noqa: PTH120
        if is_sticky and not self._is_trusted_user(status.st_uid):
            yield _owner_flaw(Path(path), status)

    def _flaws_at(self, path: str, status: os.stat_result | None = None) -> Iterator[Writable]:
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
        found = self._mode_flaw(path, status, sticky_is_enough=sticky_is_enough)
        return None if found is None or self._is_harmless(path) else found

    def _mode_flaw(
        self, path: Path, status: os.stat_result, *, sticky_is_enough: bool
    ) -> Writable | None:
        if not self._is_trusted_user(status.st_uid):
            return _owner_flaw(path, status)
        is_directory = stat.S_ISDIR(status.st_mode)
        is_sticky = is_directory and status.st_mode & stat.S_ISVTX
        if (is_sticky and sticky_is_enough) or (is_directory and self._is_only_user):
            return None
        if status.st_mode & stat.S_IWOTH:
            return Writable(path, "can be written by everybody", f"chmod o-w '{path}'")
        if status.st_mode & stat.S_IWGRP:
            return self._group_flaw(path, status.st_gid)
        return None

    def _group_flaw(self, path: Path, gid: int) -> Writable | None:
        """Return the flaw of a path with the group's write bit, by its group or its access list.

        In a path with an access list, that bit is the upper bound of what the list permits.
        """
        entries = list(_access_list(path))
        for tag, who in entries:
            other_user = tag == _ACL_USER and not self._is_trusted_user(who)
            if other_user or (tag == _ACL_GROUP and not self._is_private_group(who)):
                why = f"can be written by others ({'user' if other_user else 'group'} {who})"
                return Writable(path, why, f"setfacl -b '{path}'")
        if self._is_private_group(gid):
            return None
        why = f"can be written by its group {_group_name(gid)}"
        return Writable(path, why, f"chmod g-w '{path}'")

    def _is_trusted_user(self, uid: int) -> bool:
        if uid in (ROOT, self.user):
            return True
        if sys.platform == "darwin":
            return _is_administrator(uid)
        return uid == _unmapped_user()

    def _is_private_group(self, gid: int) -> bool:
        """Return whether a group certainly has no other members.

        That is so for root's group, the user's own group of the same name, and a group of the
        system without members. Other groups may have members in a directory service.
        """
        if gid == ROOT or (sys.platform == "darwin" and gid == DARWIN_ADMIN_GID):
            return True
        with suppress(KeyError):
            group, us = grp.getgrgid(gid), {pwd.getpwuid(self.user).pw_name, "root"}
            if not set(group.gr_mem) <= us:
                return False
            return group.gr_name in us or (gid <= MAX_SYSTEM_GID and _primary_members(gid) <= us)
        return False

    def _is_harmless(self, path: Path) -> bool:
        """Return whether the file system is read-only, or keeps no owners at all."""
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return True
        return self.user != ROOT and _keeps_no_owners(path)


def first_flaw(paths: Iterable[Path], trusted: tuple[Path, ...] = ()) -> Writable | None:
    """Return the first flaw by which others could change any of these files. Raises OSError."""
    writers = WriterCheck(trusted)
    return next((found for path in paths if (found := writers.flaw(path))), None)


def is_directory(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a directory or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads in a circle, or to a place that may not be read.
        return False


def _too_many_files(directory: Path) -> Writable:
    why = f"has more than {MAX_FILES} files, too many to be checked"
    return Writable(directory, why, "remove those that do not belong to it")


def _owner_flaw(path: Path, status: os.stat_result) -> Writable:
    owner = _user_name(status.st_uid)
    return Writable(path, f"belongs to another user ({owner})", f"chown {os.geteuid()} '{path}'")


def _access_list(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the users and groups that may write by an access list, as tag and id. Linux only."""
    if sys.platform != "linux":
        return
    try:
        raw = os.getxattr(path, _ACL)
    except OSError:
        return
    for tag, permissions, who in _ACL_ENTRY.iter_unpack(raw[_ACL_VERSION_BYTES:]):
        if permissions & _ACL_WRITE and tag in (_ACL_USER, _ACL_GROUP):
            yield tag, who


def _primary_members(gid: int) -> set[str]:
    """Return the users whose primary group this is."""
    return {user.pw_name for user in pwd.getpwall() if user.pw_gid == gid}


def _unmapped_user() -> int | None:
    """Return the uid that stands for all unmapped users, in a user namespace without root.

    The files of the system itself have this owner there. None outside of such a namespace.
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
        return pwd.getpwuid(uid).pw_name in grp.getgrgid(DARWIN_ADMIN_GID).gr_mem
    return False


def _keeps_no_owners(path: Path) -> bool:
    """Return whether a path's file system takes everybody for the owner, as exFAT on macOS."""
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
