"""A front that stands for leader, as a process that a test may kill or stop.

`python -m tests.fleet.engines.contender etcd ENDPOINT NAME`, or `kubernetes SERVER TOKEN_FILE
CA_FILE LEASE NAME`. Writes each Lead as a line of JSON, unless only `until` is new. When it is told
to end it writes the first and the last moment at which it might have placed a model, for each
epoch.
"""

import asyncio
import json
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from pool_service.fleet.engines.etcd.client import EtcdClient
from pool_service.fleet.engines.etcd.endpoints import Access
from pool_service.fleet.engines.etcd.leadership import EtcdLeadership
from pool_service.fleet.engines.kubernetes.access import Access as KubernetesAccess
from pool_service.fleet.ports import Lead, Leadership
from tests.fleet.engines.kubernetes.fronts import leadership

TICK_S = 0.005


class Contender:
    def __init__(self) -> None:
        self._lead: Lead | None = None
        self._placed: dict[int, list[float]] = {}

    def changed(self, lead: Lead) -> None:
        before, self._lead = self._lead, lead
        self._note()
        if before is not None and replace(before, until=lead.until) == lead:
            return
        said = {"leads": lead.leads, "epoch": lead.epoch, "address": lead.address}
        print(json.dumps(said), flush=True)

    async def place(self) -> None:
        """Do as a front does that places models all the time."""
        while True:
            self._note()
            await asyncio.sleep(TICK_S)

    def _note(self) -> None:
        """Note this moment if it is one at which a front may place a model."""
        now = time.monotonic()
        if self._lead is not None and self._lead.leads and now < self._lead.until:
            self._placed.setdefault(self._lead.epoch, [now, now])[1] = now

    def report(self) -> None:
        print(json.dumps({"placed": self._placed}), flush=True)


async def by_etcd(endpoint: str, name: str) -> None:
    async with EtcdClient(Access((endpoint,))) as client:
        await stand(EtcdLeadership(client, prefix="test/", name=name, address=f"{name}:1"))


async def by_lease(server: str, token: str, ca: str, lease: str, name: str) -> None:
    access = KubernetesAccess(server=server, token=Path(token), ca=Path(ca) if ca else None)
    await stand(leadership(access, lease, name))


async def stand(leadership: Leadership) -> None:
    """Stand for leader, and place while this front leads, until SIGTERM; then report."""
    contender = Contender()
    tasks = [
        asyncio.create_task(leadership.run(contender.changed)),
        asyncio.create_task(contender.place()),
    ]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tasks[0].cancel)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks[1].cancel()
    contender.report()


if __name__ == "__main__":
    engine, *given = sys.argv[1:]
    asyncio.run(by_etcd(*given) if engine == "etcd" else by_lease(*given))
