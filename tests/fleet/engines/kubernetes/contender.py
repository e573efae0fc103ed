"""A front that stands for leader, as a process of its own, which a test may kill or stop."""

import asyncio
import signal
import sys
from pathlib import Path

from pool_service.fleet.engines.kubernetes.access import Access
from tests.fleet.engines.contender import Contender
from tests.fleet.engines.kubernetes.fronts import leadership


async def main(server: str, token: str, ca: str, lease: str, name: str) -> None:
    contender = Contender()
    access = Access(server=server, token=Path(token), ca=Path(ca) if ca else None)
    tasks = [
        asyncio.create_task(leadership(access, lease, name).run(contender.changed)),
        asyncio.create_task(contender.place()),
    ]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks[0].cancel)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks[1].cancel()
    contender.report()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
