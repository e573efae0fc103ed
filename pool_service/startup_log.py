"""The first log lines of a service: its state directory, memory budget, servers and runtime."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from pool_service.core.effective_settings import SandboxState
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.results import Totals
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, Settings
from pool_service.core.units import size

log = structlog.get_logger("pool_service")


def log_pool(state_dir: Path, budget: float, totals: Totals) -> None:
    """Log the state directory, the memory budget and the number of adopted servers.

    Args:
        state_dir: the state directory.
        budget: bytes that all servers together may need; FOREVER: no limit.
        totals: of the pool after its recovery.
    """
    log.info("state and logs of servers", directory=str(state_dir))
    of_memory = "without a limit" if budget == FOREVER else size(budget)
    log.info("memory for servers", budget=of_memory)
    log.info(
        "servers of an earlier service",
        adopted=totals.servers - totals.by_phase.get(Phase.FAILED, 0),
    )


async def log_runtime(
    describe: Callable[[], Awaitable[str]],
    sandbox_state: Callable[[Settings], Awaitable[SandboxState]],
) -> None:
    """Log the default program (for models that name no runtime), or how to get one.

    sandbox_state: returns whether servers with these settings are confined.
    """
    try:
        found = await describe()
    except RuntimeUnavailable as error:
        log.warning("no runtime", why=str(error))
        return
    flaw = (await sandbox_state(Settings(runtime_model=""))).flaw
    log.info("runtime", found=found, servers=f"not confined: {flaw}" if flaw else "confined")
