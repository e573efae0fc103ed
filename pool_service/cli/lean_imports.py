"""Imports of what runs for long, without packages that it would load and never use."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

UNUSED = ("rich", "greenlet")
"""Packages that structlog imports where they are installed: for tracebacks, which all logs have
plain, and for greenlets, which nothing here uses. With what rich itself imports they take 5 MiB and
a sixth of the start."""


@contextmanager
def without_unused_packages() -> Iterator[None]:
    """Make imports of UNUSED fail within the block, but for those that were imported before."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # by its docs
    hidden = [package for package in UNUSED if package not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for package in hidden:
            del modules[package]
