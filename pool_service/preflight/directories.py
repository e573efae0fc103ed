"""Checks of the directories that a configuration names."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pool_service.config import Config
from pool_service.config.errors import KeyPath, closest
from pool_service.preflight.problem import Problem

CACHE_VARIABLES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
"""Environment variables with the location of the Hugging Face cache."""


def missing_model(key: KeyPath, model_path: Path) -> Problem | None:
    """Return the problem if a model's path does not exist; None if it exists. Blocking.

    key: the key that names the path.

    1. The parent directory has other entries: the name is wrong, which is an error.
    2. The parent directory is empty or missing: a drive may not be mounted, which may pass.
    """
    if os.path.lexists(model_path):
        return None
    siblings: list[str] = []
    with contextlib.suppress(OSError):
        siblings = os.listdir(model_path.parent)  # noqa: PTH208  # only the names
    if not siblings:
        what = f"there is no '{model_path}' now; mount its drive, or correct the path"
        return Problem(key, what, is_error=False)
    meant = closest(model_path.name, siblings)
    hint = f", did you mean {meant!r}?" if meant else "; correct the path"
    return Problem(key, f"there is no {model_path.name!r} in '{model_path.parent}'{hint}")


def directory_problems(config: Config) -> Iterator[Problem]:
    """Yield the configured directories that do not exist. Blocking."""
    for directory in config.service.trusted_directories:
        if not directory.is_dir():
            what = f"there is no directory '{directory}'"
            yield Problem(("service", "trusted_directories"), what, is_error=False)
    sections: dict[KeyPath, tuple[tuple[str, str], ...]] = {}
    sections["runtime", "environment"] = config.runtime.environment
    sections["defaults", "environment"] = config.defaults.environment
    for name, runtime in config.runtimes.items():
        sections["runtimes", name, "environment"] = runtime.environment
    for name, model in config.models.items():
        sections["models", name, "environment"] = model.environment
    for path, environment in sections.items():
        for variable, value in environment:
            if variable in CACHE_VARIABLES and value.startswith("/") and not Path(value).is_dir():
                what = f"{variable} says '{value}', and there is no such directory"
                yield Problem(path, what, is_error=False)
