"""Read what a server reports of its prompts, and allow it what to write of them at its end.

Both are files in the server's working directory (`children/kept_prompts.py`).
"""

import struct
from collections.abc import Iterable
from pathlib import Path

from pool_service.adapters.children.kept_prompts import (
    ALLOWED,
    REPORT,
    REPORT_FORMAT,
    SLACK_BYTES,
    UNKNOWN,
)
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.system.own_files import read_own, write_own
from pool_service.core.types import LaunchPlan, PromptCache

IN_FLIGHT_SHARE = 1 / 8
"""The share of a model's bound that is allowed for what its requests in flight compute."""

_MAX_DIGITS = 20


def reused_tokens(work_dir: Path) -> int:
    """Return the tokens that a process did not compute anew, as it counts them; 0 if unknown."""
    report = _report(work_dir)
    return report[0] if report else 0


def unasked_bytes(cache: PromptCache) -> int:
    """Return the bytes that a process may write if the service has not said how many.

    As when the service is gone: what was kept before, and little more.
    """
    return cache.disk_bytes + SLACK_BYTES


def wanted_bytes(plan: LaunchPlan, work_dir: Path) -> int:
    """Return the bytes that the process of a plan may want to write, within its bound.

    That is what it has reported, with room for requests in flight; nothing before its first
    report, as it has no prompts yet; and the whole bound if the runtime does not tell, or tells the
    size of something else than what is written.
    """
    cache, report = plan.prompt_cache, _report(work_dir)
    if cache is None or report is None:
        return 0
    if report[1] == UNKNOWN or vllm_mlx.KV_QUANTIZATION in plan.argv:
        return cache.max_bytes
    return min(report[1] + int(cache.max_bytes * IN_FLIGHT_SHARE), cache.max_bytes)


def fair_share(left: int, wanted: int, others: Iterable[int]) -> int:
    """Return how many of the `left` bytes somebody gets who wants `wanted`, beside `others`.

    Those who want least get all of it. The rest is divided equally.
    """
    sharing = sorted(others)
    for position, other in enumerate(sharing):
        share = left // (len(sharing) - position + 1)
        if wanted <= share or other > share:
            return min(wanted, share)
        left -= other
    return min(wanted, left)


def read_allowed(work_dir: Path) -> int:
    """Return the bytes that a process was allowed to write. Raises OSError, ValueError."""
    return int(read_own(work_dir / ALLOWED, _MAX_DIGITS)[0])


def write_allowed(work_dir: Path, allowed_bytes: int) -> None:
    """Allow a process to write so many bytes; it never reads half a number. Raises OSError."""
    part = work_dir / f"{ALLOWED}.part"
    write_own(part, str(allowed_bytes).encode())
    part.replace(work_dir / ALLOWED)


def _report(work_dir: Path) -> tuple[int, int] | None:
    """Return the numbers that a process reports; None without any."""
    try:
        content, _ = read_own(work_dir / REPORT, struct.calcsize(REPORT_FORMAT))
        tokens, disk_bytes = struct.unpack(REPORT_FORMAT, content)
    except (OSError, struct.error):
        return None
    return tokens, disk_bytes
