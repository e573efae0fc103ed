"""Members that register themselves in etcd."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import structlog

from pool_service.fleet.engines.etcd.client import EtcdClient, Lease, Span, revoke_for_a_while
from pool_service.fleet.engines.etcd.errors import EtcdError
from pool_service.fleet.engines.trouble import Trouble

TTL_S = 10
"""The default life of a registration that is not renewed. Fronts learn sooner by themselves that a
member is away, so it only has to end at some time."""

RENEWALS = 3
"""How often a registration is renewed within its life."""

CHECK_S = 3.0
"""The interval at which a front asks whether etcd is there while no member comes or goes."""

RETRY_PAUSE_S = 1.0
"""The pause after a failure of etcd."""

REVOKE_LIMIT_S = 1.0
"""How long the end of a registration may take; it ends by itself, too."""

log = structlog.get_logger("pool_service.fleet")


class Registration:
    """Keeps the key PREFIX + "members/" + NAME, whose value is the member's address, while it runs.

    A member that has been started again takes its key over at the same address. At another address
    it waits until the registration of its past has ended, as a second member of the same name
    does: so no two can drive each other out.
    """

    def __init__(
        self, client: EtcdClient, *, prefix: str, name: str, address: str, ttl_s: int = TTL_S
    ) -> None:
        self._client = client
        self._name = name
        self._key = f"{prefix}members/{name}".encode()
        self._address = address
        self._ttl_s = ttl_s
        self._trouble = Trouble(f"registering {name} in the fleet")
        self._rival = ""
        self._is_left = False
        self.flaw = "etcd has not answered yet"
        """Why fronts may not find the member, in words; empty if they do."""

    def leave(self) -> None:
        """Leave the key to a member that takes it over, when `run` is cancelled.

        Meanwhile it stays for as long as it lives without renewal.
        """
        self._is_left = True

    async def run(self) -> None:
        """Be registered until cancelled."""
        while True:
            try:
                await self._with_lease()
            except EtcdError as error:
                self._fail(error)
                await asyncio.sleep(RETRY_PAUSE_S)

    def _fail(self, error: EtcdError) -> None:
        self.flaw = str(error)
        self._trouble.met(error.kind, str(error))

    async def _with_lease(self) -> None:
        """Be registered by one lease, until it is gone."""
        lease = await self._client.grant(self._ttl_s)
        try:
            await self._claim(lease, take_over=True)
            pause = lease.ttl_s / RENEWALS
            while True:
                await asyncio.sleep(pause)
                try:
                    if not await self._client.keep_alive(lease):
                        return
                    await self._claim(lease, take_over=False)
                    pause = lease.ttl_s / RENEWALS
                except EtcdError as error:
                    # The lease may outlive this, and etcd says so if not.
                    self._fail(error)
                    pause = RETRY_PAUSE_S
        finally:
            if not self._is_left:
                await revoke_for_a_while(self._client, lease, REVOKE_LIMIT_S)

    async def _claim(self, lease: Lease, *, take_over: bool) -> None:
        """Create the key if it is not there.

        take_over: if it is there with the same address, let it end with this lease from now on.
        """
        address = self._address.encode()
        held = await self._client.create(self._key, address, lease.ident)
        self._trouble.over()
        if held.lease == lease.ident or held.value == address:
            if held.lease != lease.ident and take_over:
                await self._client.put(self._key, address, lease.ident)
            self._rival = self.flaw = ""
            return
        rival = held.value.decode(errors="replace")
        self.flaw = f"another member is registered as {self._name}, at {rival}"
        if self._rival != rival:
            self._rival = rival
            log.warning(
                "fleet_name_taken",
                name=self._name,
                address=self._address,
                registered=rival,
                hint="Each member needs a name of its own; a name is free when its"
                " registration has ended.",
            )


class EtcdMembership:
    """Knows the members that are registered."""

    def __init__(self, client: EtcdClient, *, prefix: str) -> None:
        self._client = client
        self._prefix = f"{prefix}members/"
        self._trouble = Trouble("following the fleet's members in etcd")

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        known: Mapping[str, str] | None = None
        while True:
            try:
                async with aclosing(
                    self._client.follow(Span.under(self._prefix), CHECK_S)
                ) as listings:
                    async for keys in listings:
                        self._trouble.over()
                        members = {
                            key.decode(errors="replace").removeprefix(self._prefix): (
                                entry.value.decode(errors="replace")
                            )
                            for key, entry in keys.items()
                        }
                        if members != known:
                            known = members
                            yield members
            except EtcdError as error:
                self._trouble.met(error.kind, str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
