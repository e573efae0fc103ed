"""What a run was measured on: never who measured it or where."""

import os
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from tools.bench import llama_swap

PACKAGES = ("pool-service", "grpcio", "protobuf", "vllm-mlx", "mlx", "mlx-lm", "uvicorn")


def describe() -> dict[str, str]:
    """Date, machine and versions, as text. The load is that before the run."""
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": f"{os.cpu_count()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "load": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "none"
    facts["nginx"] = _nginx()
    facts["llama-swap"] = llama_swap.version()
    return facts


def line(facts: dict[str, str]) -> str:
    """All that as a sentence for the page."""
    names = ("python", *PACKAGES, "nginx", "llama-swap")
    versions = ", ".join(f"{name} {facts[name]}" for name in names)
    return (
        f"{facts['date']}, commit {facts['commit']}, {facts['system']}, {facts['processor']}, "
        f"{facts['cores']} cores, {facts['memory']}, a load of {facts['load']} before it; "
        f"{versions}."
    )


def _commit() -> str:
    """Of the code that is measured; "unknown" where it is no clone, or git is not there."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "describe", "--always", "--dirty=-and-changes"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return platform.processor() or "an unnamed processor"
    return found[1] if found else platform.processor() or "an unnamed processor"


def _nginx() -> str:
    program = shutil.which("nginx")
    if program is None:
        return "none"
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stderr
    return told.strip().rpartition("/")[2]
