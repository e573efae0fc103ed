"""A control group that is delegated to a service, as systemd does it."""

import itertools
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MOUNT = re.compile(r"^.* (/\S*) \S+ .*- cgroup2 ", re.MULTILINE)
_numbers = itertools.count()


@dataclass(frozen=True)
class Delegated:
    """A group that may be divided, with that of the service in it."""

    path: Path

    @property
    def service(self) -> Path:
        return self.path / "service"

    @property
    def wrapper(self) -> list[str]:
        """A command that becomes the one that follows it, in the group of the service."""
        return ["/bin/sh", "-c", f'echo $$ > {self.service}/cgroup.procs && exec "$@"', "sh"]

    @property
    def of_servers(self) -> list[Path]:
        """The groups of single processes."""
        return [one for one in self.path.glob("servers-*/*") if one.is_dir()]


def mount() -> Path | None:
    """Return where the hierarchy is mounted, if this process may make groups there."""
    try:
        found = MOUNT.search(Path("/proc/self/mountinfo").read_text())
    except OSError:
        return None
    path = Path(found[1]) if found else None
    return path if path and os.access(path, os.W_OK) and os.getuid() == 0 else None


@contextmanager
def delegated(root: Path) -> Iterator[Delegated]:
    """Make such a group below a mount, and end whatever is in it afterwards."""
    one = Delegated(root / f"pool-test-{os.getpid()}-{next(_numbers)}")
    one.service.mkdir(parents=True)
    os.setxattr(one.path, "user.delegate", b"1")  # type: ignore[attr-defined,unused-ignore]
    try:
        yield one
    finally:
        remove(one.path)


def remove(group: Path) -> None:
    for directory, _, _ in os.walk(group, topdown=False):
        while pids := (Path(directory) / "cgroup.procs").read_text().split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        Path(directory).rmdir()


def as_seen_by(service: Path, mounted: Path, root: Path) -> Path:
    """Write what /proc tells a process of that group below another root; return that root."""
    of_process = root / "proc" / "self"
    of_process.mkdir(parents=True)
    (root / "mounted").symlink_to(mounted)
    (of_process / "cgroup").write_text(f"1:name=systemd:/\n0::/{service.relative_to(mounted)}\n")
    (of_process / "mountinfo").write_text(
        "24 1 0:22 / /proc rw - proc proc rw\n31 24 0:27 / /mounted rw,nosuid - cgroup2 x rw\n"
    )
    return root
