"""The variables and the launch of a confined process: what it needs besides its permissions."""

import json
from collections.abc import Mapping
from pathlib import Path

from pool_service.adapters import children
from pool_service.adapters.children.confinement.confine import VARIABLE
from pool_service.adapters.models.files import hub_cache
from pool_service.core.types import Sandbox
from pool_service.paths import PathFlaw

CONFINED_CHILD = Path(children.__file__).with_name("confined_child.py")

_TEMPORARY, _CACHE = ".tmp", ".cache"
"""Directories in the working directory. No model has such a name, which a runtime would find there.
"""

_OWN_CACHES = (
    *("XDG_CACHE_HOME", "HF_MODULES_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "MPLCONFIGDIR"),
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR", "CUDA_CACHE_PATH"),
)
"""Variables of directories that libraries write to."""


def to_message(sandbox: Sandbox) -> dict[str, object]:
    """Return a sandbox as `confinement.confine` takes it."""
    return {
        "readable": sandbox.readable,
        "ports": sandbox.ports,
        "private": sandbox.private,
    }


def sandbox_variables(
    sandbox: Sandbox | None, environment: Mapping[str, str], work_dir: Path
) -> dict[str, str]:
    """Return the variables with which a process is confined; empty for one that is not.

    Makes the directories that they name. What libraries write goes into the working directory, and
    models stay where they are. Raises OSError.
    """
    if sandbox is None:
        return {}
    for name in (_TEMPORARY, _CACHE):
        (work_dir / name).mkdir(mode=0o700)
    variables = dict.fromkeys(_OWN_CACHES, str(work_dir / _CACHE))
    variables |= {"TMPDIR": str(work_dir / _TEMPORARY), "HF_TOKEN_PATH": "/dev/null"}
    try:
        cache = hub_cache(environment)
    except PathFlaw:
        cache = None
    if cache is not None:
        variables["HF_HUB_CACHE"] = str(cache)
    return variables | {VARIABLE: json.dumps(to_message(sandbox))}
