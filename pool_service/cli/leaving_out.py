"""Imports without what nobody needs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def leaving_out(package: str) -> Iterator[None]:
    """Hide `package` from what is imported meanwhile, unless it was imported before."""
    modules: dict[str, ModuleType | None] = sys.modules  # type: ignore[assignment]  # by its docs
    if package in modules:
        yield
        return
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]
