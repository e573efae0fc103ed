"""Checks of the machine: its operating system, its limits and its memory."""

import platform
import resource
import sys
from collections.abc import Iterator

from pool_service.adapters.memory.machine_memory import machine_memory
from pool_service.adapters.system.process_settings import FEW_DESCRIPTORS, raise_descriptor_limit
from pool_service.config import Config
from pool_service.core.types import FOREVER
from pool_service.core.units import size
from pool_service.doctor.finding import Finding, Verdict, judge

FIRST_MACOS = 14
"""The first version of macOS for which MLX has wheels."""


def platform_findings() -> Iterator[Finding]:
    """Check that MLX and the service run on this system."""
    system = f"{platform.platform()}, {platform.machine()}, Python {platform.python_version()}"
    if sys.platform == "darwin":
        remedy = f"MLX needs Apple silicon and macOS {FIRST_MACOS}; use a Python for arm64"
        yield judge("platform", system, holds=_is_mac_for_mlx(), remedy=remedy)
    else:
        remedy = "the service runs on Linux and macOS"
        yield judge("platform", system, holds=sys.platform == "linux", remedy=remedy)


def _is_mac_for_mlx() -> bool:
    release = platform.mac_ver()[0].partition(".")[0]
    return platform.machine() == "arm64" and release.isdigit() and int(release) >= FIRST_MACOS


def descriptor_findings() -> Iterator[Finding]:
    """Check how many files the service may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    given = raise_descriptor_limit()
    found = f"{given} (raised from {soft})" if given != soft else str(given)
    if given >= FEW_DESCRIPTORS:
        yield Finding("open files", Verdict.OK, found)
        return
    remedy = f"raise the hard limit to {FEW_DESCRIPTORS} or more (LimitNOFILE= in a systemd unit)"
    yield Finding("open files", Verdict.WARNING, found, remedy)


def memory_findings() -> Iterator[Finding]:
    """Check that the system reports its memory, and that it is not short of memory."""
    memory = machine_memory()
    total, available = memory.both()
    found = f"{size(available)} of {size(total)} available"
    remedy = "run the service where the system reports its memory (on Linux: in /proc)"
    yield judge("memory", found, holds=0 < available <= total, remedy=remedy)
    if memory.pressured():
        found = "the system is short of memory, and no model is started as long as it is"
        yield Finding("memory", Verdict.WARNING, found, "close programs that use much memory")


def budget_findings(config: Config) -> Iterator[Finding]:
    """Report the memory budget of all servers, and where it comes from."""
    memory = machine_memory()
    budget = config.limits(memory.total(), memory.default_budget()).memory_budget
    origin = "memory.budget" if config.memory.budget is not None else "the default"
    if budget == FOREVER:
        yield Finding("budget", Verdict.INFO, "without a limit")
    else:
        yield Finding("budget", Verdict.INFO, f"{size(budget)}, by {origin}")
