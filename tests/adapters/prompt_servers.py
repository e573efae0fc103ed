"""Servers that keep their prompts, as the store of prompts sees them."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pool_service.adapters.children.kept_prompts import (
    ALLOWED,
    MANIFEST,
    REPORT,
    SAVED,
    UNKNOWN,
)
from pool_service.adapters.prompts.notes import NOTE
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.core.types import LaunchPlan, PromptCache

KIB = 1024
KEY, OLD, NEW = "c" * 32, "a" * 32, "b" * 32

OpenStore = Callable[..., PromptStore]
"""Opens a store of prompts below the test's directory, of 100 KiB or another bound in bytes."""


def plan_of(cache: PromptCache | None) -> LaunchPlan:
    return LaunchPlan(("x",), (), None, "/health", "m", "nonce", prompt_cache=cache)


@contextmanager
def nested(directory: Path, root: Path) -> Iterator[None]:
    """Make directories in a directory, one in the other, deeper than Python walks through.

    At the end all below `root` is removed: pytest could not.
    """
    above = os.open(directory, os.O_RDONLY)
    for _ in range(2 * sys.getrecursionlimit()):
        os.mkdir("d", dir_fd=above)
        below = os.open("d", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    try:
        yield
    finally:
        subprocess.run(["rm", "-rf", *root.iterdir()], check=True)


def write(work_dir: Path, size: int, *, tokens: int = 7, whole: bool = True) -> None:
    """Write entries of `size` bytes as a server does; not whole: as one that is killed."""
    saved = work_dir / SAVED
    (saved / "version").mkdir(parents=True)
    (saved / "version" / "entry_0.safetensors").write_bytes(b"k" * size)
    (saved / "version" / "index.json").write_text("{}")
    entry = {"files": {"version/entry_0.safetensors": size}, "tokens": tokens}
    manifest = {"version": 1, "entries": [entry], "indexes": {"version/index.json": 2}}
    if whole:
        (saved / MANIFEST).write_text(json.dumps(manifest))


def entry_bytes(*directories: Path) -> int:
    files = (path for one in directories for path in one.rglob("*") if path.is_file())
    # Notes come and go beside them, as they are flushed in the background.
    beside = (ALLOWED, REPORT, MANIFEST, NOTE, f"{NOTE}.part")
    entries = (path for path in files if path.name not in beside)
    return sum(path.stat().st_size for path in entries)


def report(work_dir: Path, disk_bytes: int) -> None:
    work_dir.mkdir(exist_ok=True)
    (work_dir / REPORT).write_bytes(struct.pack("<QQ", 400, disk_bytes))


def allow(
    store: PromptStore,
    plan: LaunchPlan,
    work_dir: Path,
    others: dict[Path, LaunchPlan] | None = None,
) -> None:
    """Let the process of a plan write, which has prompts, and runs beside others."""
    if work_dir.exists() and not (work_dir / REPORT).exists():
        report(work_dir, UNKNOWN)
    store.allow(plan, work_dir, {work_dir: plan, **(others or {})})


def end(
    store: PromptStore,
    plan: LaunchPlan,
    work_dir: Path,
    size: int = 4 * KIB,
    *,
    tokens: int = 7,
    whole: bool = True,
) -> None:
    """Let the process of a plan end, as the service sees it."""
    work_dir.mkdir(parents=True, exist_ok=True)
    allow(store, plan, work_dir)
    write(work_dir, size, tokens=tokens, whole=whole)
    store.take(plan, work_dir)
    shutil.rmtree(work_dir)


def allowed(store: PromptStore, work_dir: Path) -> LaunchPlan:
    """Return the plan of a process that may write."""
    plan = plan_of(store.find("m", KEY, 20 * KIB))
    work_dir.mkdir(parents=True)
    allow(store, plan, work_dir)
    return plan


def keep(store: PromptStore, tmp_path: Path, model: str = "m", key: str = KEY) -> PromptCache:
    """Let a server of a model start, write 10 KiB and end; return its place."""
    plan = plan_of(store.find(model, key, 20 * KIB))
    end(store, plan, tmp_path / "work" / f"{model}{key}", 10 * KIB)
    assert plan.prompt_cache is not None
    return plan.prompt_cache
