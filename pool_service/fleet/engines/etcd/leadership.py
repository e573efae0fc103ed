"""One leader among the fronts of a fleet, by a lease of etcd."""

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from pool_service.fleet.engines.etcd import etcd_pb2
from pool_service.fleet.engines.etcd.client import EtcdClient, Lease, Span, revoke_for_a_while
from pool_service.fleet.engines.etcd.errors import EtcdError
from pool_service.fleet.engines.trouble import Trouble
from pool_service.fleet.ports import MAY_NOT_PLACE, Lead

TTL_S = 3
"""The default life of a lease that is not renewed."""

RENEWALS = 3
"""How often a lease is renewed within its life."""

MARGIN = 0.1
"""The part of a lease's life that a leader does not use: for clocks of different speed, and for
what it has begun."""

RETRY_PAUSE_S = 0.25
"""The pause after a failure of etcd."""

REVOKE_LIMIT_S = 1.0
"""How long the end of a lease may take; it ends by itself, too."""

UNKNOWN = Lead(leads=False, epoch=0, address="", until=MAY_NOT_PLACE)


class EtcdLeadership:
    """Leads while it holds the key PREFIX + "leader", which ends with its lease.

    1. Who finds no key takes a lease and creates the key with it; etcd lets one succeed. Its
       create revision is the epoch.
    2. The leader renews its lease. It counts the lease's life from when the last renewal that was
       answered was *sent*, and etcd counts from when that came: so by its own clock the leader
       stops before etcd lets another one lead.
    3. Followers watch the key.
    """

    def __init__(
        self,
        client: EtcdClient,
        *,
        prefix: str,
        name: str,
        address: str,
        ttl_s: int = TTL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare to stand for leader.

        prefix: of all keys of the fleet, such as "pool-service/main/".
        name, address: of this front; the address is the gRPC address at which other fronts
            reach it.
        clock: measures `Lead.until`. It should go on while the machine sleeps, where such a clock
            is there; time.monotonic() stops meanwhile.
        """
        self._client = client
        self._key = f"{prefix}leader".encode()
        self._value = json.dumps({"name": name, "address": address}).encode()
        self._address = address
        self._ttl_s = ttl_s
        self._check_s = ttl_s / RENEWALS
        self._clock = clock
        self._trouble = Trouble("choosing the fleet's leader")
        self._lead = UNKNOWN
        self._changed: Callable[[Lead], None] = lambda _: None

    async def run(self, changed: Callable[[Lead], None]) -> None:
        self._changed = changed
        while True:
            try:
                await self._until_free()
                await self._stand()
            except EtcdError as error:
                self._trouble.met(error.kind, str(error))
                await asyncio.sleep(RETRY_PAUSE_S)

    async def _until_free(self) -> None:
        """Follow the leader until there is none."""
        async with aclosing(self._client.follow(Span(self._key), self._check_s)) as listings:
            async for keys in listings:
                self._trouble.over()
                holder = keys.get(self._key)
                if holder is None:
                    self._tell(UNKNOWN)
                    return
                if holder.value == self._value:
                    # An earlier lease of this front, of whose end etcd could not be told.
                    self._tell(UNKNOWN)
                    earlier = Lease(holder.lease, 0.0)
                    await revoke_for_a_while(self._client, earlier, REVOKE_LIMIT_S)
                    continue
                self._tell(
                    Lead(
                        leads=False,
                        epoch=holder.create_revision,
                        address=_address_of(holder),
                        until=MAY_NOT_PLACE,
                    )
                )

    async def _stand(self) -> None:
        """Try to become the leader, and lead while this is possible."""
        sent = self._clock()
        lease = await self._client.grant(self._ttl_s)
        try:
            holder = await self._client.create(self._key, self._value, lease.ident)
            if holder.lease == lease.ident:
                until = self._end(lease, sent)
                self._tell(
                    Lead(
                        leads=True,
                        epoch=holder.create_revision,
                        address=self._address,
                        until=until,
                    )
                )
                await self._hold(lease)
        finally:
            if self._lead.leads:
                self._tell(UNKNOWN)
            await revoke_for_a_while(self._client, lease, REVOKE_LIMIT_S)

    async def _hold(self, lease: Lease) -> None:
        """Lead until the lease or the key is lost."""
        renewing = asyncio.create_task(self._renew(lease))
        watching = asyncio.create_task(self._until_lost(self._lead.epoch))
        try:
            await asyncio.wait((renewing, watching), return_when=asyncio.FIRST_COMPLETED)
        finally:
            renewing.cancel()
            watching.cancel()
            await asyncio.wait((renewing, watching))
        for task in (renewing, watching):
            if not task.cancelled():
                task.result()

    async def _renew(self, lease: Lease) -> None:
        """Renew the lease, until it is gone or could not be renewed for as long as it lives."""
        pause = lease.ttl_s / RENEWALS
        while True:
            await asyncio.sleep(pause)
            sent = self._clock()
            try:
                async with asyncio.timeout(self._lead.until - sent):
                    if not await self._client.keep_alive(lease):
                        return
            except TimeoutError:
                return
            except EtcdError as error:
                self._trouble.met(error.kind, str(error))
                pause = RETRY_PAUSE_S
                continue
            self._trouble.over()
            pause = lease.ttl_s / RENEWALS
            until = self._end(lease, sent)
            if until <= self._clock():
                # This process was stopped while the answer was there.
                return
            self._tell(replace(self._lead, until=until))

    async def _until_lost(self, epoch: int) -> None:
        """Watch the key until it is no longer the one that this front created."""
        while True:
            try:
                async with aclosing(
                    self._client.follow(Span(self._key), self._check_s)
                ) as listings:
                    async for keys in listings:
                        holder = keys.get(self._key)
                        if holder is None or holder.create_revision != epoch:
                            return
            except EtcdError:
                # Renewals fail, too, if this matters.
                await asyncio.sleep(RETRY_PAUSE_S)

    def _end(self, lease: Lease, sent: float) -> float:
        return sent + lease.ttl_s * (1 - MARGIN)

    def _tell(self, lead: Lead) -> None:
        if lead != self._lead:
            self._lead = lead
            self._changed(lead)


def _address_of(holder: etcd_pb2.KeyValue) -> str:
    """Return the address in a leader's key; empty if it is none of ours."""
    try:
        return str(json.loads(holder.value)["address"])
    except (ValueError, TypeError, KeyError):
        return ""
