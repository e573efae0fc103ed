"""The start of a confined process: its command, and the variables that it needs.

On Linux the process confines itself, as a variable tells it; on macOS `sandbox-exec` runs it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from pool_service.adapters import children
from pool_service.adapters.children.confinement.confine import VARIABLE
from pool_service.adapters.models.files import hub_cache
from pool_service.adapters.sandbox import seatbelt
from pool_service.core.types import Sandbox
from pool_service.paths import PathFlaw

CONFINED_CHILD = Path(children.__file__).with_name("confined_child.py")

_TEMPORARY, _CACHE, _PROFILE = ".tmp", ".cache", ".profile"
"""Names in the working directory. No model has such a name, which a runtime would find there.
"""

_OWN_CACHES = (
    *("XDG_CACHE_HOME", "HF_MODULES_CACHE", "HF_XET_CACHE", "HF_ASSETS_CACHE", "MPLCONFIGDIR"),
    *("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "NUMBA_CACHE_DIR", "CUDA_CACHE_PATH"),
)
"""Variables of directories that libraries write to."""


def confined_command(
    command: Sequence[str], sandbox: Sandbox | None, work_dir: Path, *, confines_itself: bool
) -> tuple[str, ...]:
    """Return the command that runs confined; the process stays the same. Raises OSError.

    confines_itself: the command does that, on a system where it can.
    """
    if sandbox is None:
        return tuple(command)
    if sys.platform == "darwin":
        file = work_dir / _PROFILE
        file.write_text(seatbelt.profile(sandbox, work_dir))
        return (seatbelt.SANDBOX_EXEC, "-f", str(file), *command)
    if confines_itself:
        return tuple(command)
    return (sys.executable, str(CONFINED_CHILD), *command)


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
    if sys.platform == "linux":
        variables[VARIABLE] = json.dumps(to_message(sandbox))
    return variables
