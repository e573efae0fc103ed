"""Leadership by a Lease of Kubernetes: the front that holds it may place models."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from pool_service.fleet.engines.kubernetes.client import KubernetesClient
from pool_service.fleet.engines.kubernetes.errors import Absent, KubernetesError, Outrun
from pool_service.fleet.engines.kubernetes.lease import Lease, Record
from pool_service.fleet.engines.trouble import Trouble
from pool_service.fleet.ports import MAY_NOT_PLACE, Lead

LIFE_S = 5
"""The default life of a Lease that is not renewed."""

RENEWALS = 3
"""How often a Lease is renewed within its life."""

MARGIN = 0.1
"""The part of a Lease's life that a leader does not use: for clocks of different speed, and for
what it has begun."""

LOOK_S = 1.0
"""The interval at which a front that does not lead reads the Lease."""

RETRY_PAUSE_S = 0.5
"""The pause after a failure of the API server."""

RELEASE_LIMIT_S = 1.0
"""How long the release of a Lease may take; the Lease ends by itself, too."""

UNKNOWN = Lead(leads=False, epoch=0, address="", until=MAY_NOT_PLACE)


class LeaseLeadership:
    """Leads while it holds a Lease.

    1. No clocks of two machines are compared: a front takes the Lease of another one when it has
       read the same words in it for as long as it lives, by its own clock. A Lease that has
       vanished counts as if it still said what it said last.
    2. Each write replaces the version that was read, so that one of several fronts succeeds.
    3. The leader counts the Lease's life from when the last renewal that was answered was *sent*,
       others from when they have read it: so by its own clock the leader stops before.
    4. A Lease that somebody deletes, and that a front which has just started creates anew, can be
       held beside a leader that has not noticed yet. The members refuse that leader by the epoch.
    """

    def __init__(
        self,
        client: KubernetesClient,
        *,
        namespace: str,
        lease: str,
        name: str,
        address: str,
        life_s: int = LIFE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to stand for leader.

        namespace, lease: which Lease. name, address: of this front; the address is the gRPC
            address at which other fronts reach it.
        clock: measures `Lead.until`, and the life of a Lease. It should go on while the machine
            sleeps, where such a clock is there; time.monotonic() stops meanwhile.
        """
        self._client = client
        self._lease = Lease(client, namespace, lease)
        self._holder = f"{address}/{name}"
        self._address = address
        self._life_s = life_s
        self._clock = clock
        self._trouble = Trouble("choosing the fleet's leader")
        self._read: tuple[Record, float] | None = None
        self._lead = UNKNOWN
        self._changed: Callable[[Lead], None] = lambda _: None

    async def run(self, changed: Callable[[Lead], None]) -> None:
        self._changed = changed
        try:
            while True:
                try:
                    await self._stand(await self._free_one())
                except Outrun:
                    continue
                except KubernetesError as error:
                    self._trouble.met(error.kind, str(error))
                    await asyncio.sleep(RETRY_PAUSE_S)
        finally:
            await self._client.close()

    async def _free_one(self) -> Record:
        """Follow the leader until the Lease may be taken; return it. Raises Outrun."""
        while True:
            record = await self._lease.read()
            self._trouble.over()
            wait_s = self._note(record)
            if wait_s <= 0:
                self._tell(UNKNOWN)
                return record or await self._lease.create()
            if record is not None:
                address = record.holder.rpartition("/")[0]
                self._tell(
                    Lead(leads=False, epoch=record.epoch, address=address, until=MAY_NOT_PLACE)
                )
            await asyncio.sleep(min(wait_s, LOOK_S))

    def _note(self, record: Record | None) -> float:
        """Note what the Lease says now; return after how many seconds it may be taken."""
        now = self._clock()
        if record is not None and (self._read is None or self._read[0] != record):
            self._read = record, now
        if self._read is None:
            return 0.0
        last, read_at = self._read
        if last.holder in ("", self._holder):
            return 0.0
        return read_at + (last.lives_s or self._life_s) - now

    async def _stand(self, record: Record) -> None:
        """Try to become the leader, and lead while this is possible. Raises Outrun."""
        sent = self._clock()
        held = await self._lease.take(record, self._holder, self._life_s)
        self._read = None
        try:
            until = self._end(sent)
            if until > self._clock():
                self._tell(Lead(leads=True, epoch=held.epoch, address=self._address, until=until))
                await self._hold(held)
        finally:
            self._tell(UNKNOWN)
            await self._release(held.epoch)

    async def _hold(self, held: Record) -> None:
        """Renew the Lease, until another has it, or it could not be renewed while it lives."""
        pause = self._life_s / RENEWALS
        while True:
            await asyncio.sleep(pause)
            sent = self._clock()
            try:
                async with asyncio.timeout(self._lead.until - sent):
                    renewed = await self._renewed(held)
            except TimeoutError:
                return
            except KubernetesError as error:
                self._trouble.met(error.kind, str(error))
                pause = RETRY_PAUSE_S
                continue
            self._trouble.over()
            until = self._end(sent)
            if renewed is None or until <= self._clock():
                # In the second case this process was stopped while the answer was there.
                return
            held, pause = renewed, self._life_s / RENEWALS
            self._tell(replace(self._lead, until=until))

    async def _renewed(self, held: Record) -> Record | None:
        """Renew the Lease; return it; None: it is another's, or gone."""
        try:
            return await self._lease.renew(held)
        except Absent:
            return None
        except Outrun:
            # By this front, whose call was carried out although it failed; or by somebody who has
            # changed something else.
            now = await self._lease.read()
            if now is None or (now.holder, now.epoch) != (self._holder, held.epoch):
                return None
            return await self._lease.renew(now)

    async def _release(self, epoch: int) -> None:
        """Leave the Lease to others if the API server answers in time; else it ends by itself."""
        try:
            async with asyncio.timeout(RELEASE_LIMIT_S):
                now = await self._lease.read()
                if now is not None and (now.holder, now.epoch) == (self._holder, epoch):
                    await self._lease.release(now)
        except (KubernetesError, TimeoutError):
            return

    def _end(self, sent: float) -> float:
        return sent + self._life_s * (1 - MARGIN)

    def _tell(self, lead: Lead) -> None:
        if lead != self._lead:
            self._lead = lead
            self._changed(lead)
