"""End what a test has started."""

from collections.abc import Iterable

from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.standby.standbys import Standbys
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity


async def end_all(
    standbys: Standbys, processes: LocalProcesses, started: Iterable[Identity]
) -> None:
    """End all standbys and the processes that were started, with what these leave behind."""
    await standbys.close()
    for identity in started:
        await processes.signal(identity, StopSignal.KILL)
        await processes.exited(identity)
        await processes.clean_up(identity)
