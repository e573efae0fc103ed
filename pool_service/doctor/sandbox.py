"""Checks of the sandbox of servers: whether each runtime's processes can be confined here."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.sandbox.sandboxing import Sandboxing, Subject
from pool_service.adapters.sandbox.support import sandbox_support
from pool_service.config import Config
from pool_service.core.errors import PoolError
from pool_service.core.types import Settings
from pool_service.doctor.finding import Finding, Verdict

REMEDY: Final = (
    "use a Linux with Landlock (the file /sys/kernel/security/lsm names it), or know that a model "
    'can read and change what you can, and set sandbox = "off"'
)
REQUIRED_REMEDY: Final = 'mend that, or set sandbox = "auto" for this runtime'


def sandbox_findings(config: Config) -> Iterator[Finding]:
    """Check whether the servers of each runtime are confined, and report why not."""
    sandboxing = Sandboxing(config.service.state_dir, sandbox_support(compiles=False))
    for name, options in config.all_runtime_options.items():
        subject = f"sandbox {name}" if name else "sandbox"
        try:
            obstacle = asyncio.run(_obstacle(sandboxing, options))
        except PoolError:
            # The check of the runtime tells that it has no program.
            continue
        yield _finding(subject, options, obstacle, is_default=not name)


async def _obstacle(sandboxing: Sandboxing, options: RuntimeOptions) -> str:
    """Return why servers of a runtime are not confined; empty if they are. Raises PoolError."""
    runtime, settings = CommandRuntime(options), Settings(runtime_model="")
    program = Path((await runtime.describe()).path)
    has_tools = runtime.tools_file(settings) is not None
    environment = runtime.environment(settings)
    subject = Subject(options, program, options.command[1:], environment, has_tools)
    return await sandboxing.obstacle(subject)


def _finding(subject: str, options: RuntimeOptions, obstacle: str, *, is_default: bool) -> Finding:
    if not obstacle:
        return Finding(subject, Verdict.OK, "servers are confined")
    found = f"servers are not confined: {obstacle}"
    if options.sandbox == "on":
        verdict = Verdict.BROKEN if is_default else Verdict.WARNING
        return Finding(subject, verdict, f"no server starts: {obstacle}", REQUIRED_REMEDY)
    is_meant = options.sandbox == "off" or not options.is_vllm_mlx_itself
    if is_meant or sys.platform != "linux":
        return Finding(subject, Verdict.INFO, found)
    return Finding(subject, Verdict.WARNING, found, REMEDY)
