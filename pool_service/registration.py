"""Registration of this service where fronts look for members: the composition of its parts.

The only part of a service that knows an engine of fleets, and it imports that when the
configuration names it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from pool_service.background import in_background
from pool_service.config import Config

if TYPE_CHECKING:
    from pool_service.config.etcd_section import EtcdKeys
    from pool_service.fleet.engines.etcd.client import EtcdClient


class RegistrationFlaw(Exception):
    """The service cannot register itself as it is configured; the text says why, what to do."""


class Registrar(Protocol):
    """Says where fronts look for members that this service is there."""

    def notices(self) -> list[str]:
        """Return why fronts may not find the service: a sentence; none if they do."""

    def registered(self, is_followed: Callable[[], bool]) -> AbstractAsyncContextManager[None]:
        """Register the service within a block, as long as that is possible; raise nothing.

        is_followed: returns at the end whether the next service takes over. Then the registration
        is left to it, so that no front takes the member for gone.
        """


class NoRegistrar:
    """Registers nothing: the fronts list this service themselves."""

    def notices(self) -> list[str]:
        return []

    @asynccontextmanager
    async def registered(self, is_followed: Callable[[], bool]) -> AsyncIterator[None]:  # noqa: ARG002
        yield


class EtcdRegistrar:
    """Registers the service in etcd."""

    def __init__(self, config: Config, keys: "EtcdKeys") -> None:
        """Prepare the registration. Raises RegistrationFlaw."""
        from pool_service.fleet.engines.etcd.membership import Registration  # noqa: PLC0415

        fleet = config.fleet
        self._client = _client(config, keys)
        self._registration = Registration(
            self._client, prefix=keys.prefix, name=fleet.name, address=fleet.registered_address
        )

    def notices(self) -> list[str]:
        flaw = self._registration.flaw
        if not flaw:
            return []
        return [f"Fronts may not find this member, since it is not registered: {flaw}."]

    @asynccontextmanager
    async def registered(self, is_followed: Callable[[], bool]) -> AsyncIterator[None]:
        async with self._client, in_background(self._registration.run()):
            yield
            if is_followed():
                self._registration.leave()


def registrar_of(config: Config) -> Registrar:
    """Return what registers the service as it is configured. Raises RegistrationFlaw."""
    keys = config.fleet.registry_keys
    return NoRegistrar() if keys is None else EtcdRegistrar(config, keys)


async def registered_address(config: Config) -> str | None:
    """Return the address with which etcd has this service now; None: it has none.

    Raises RegistrationFlaw if etcd cannot be asked, or there is none to be asked.
    """
    keys = config.fleet.registry_keys
    if keys is None:
        raise RegistrationFlaw("fleet.registry names nothing to be asked")
    from pool_service.fleet.engines.etcd.client import Span  # noqa: PLC0415
    from pool_service.fleet.engines.etcd.errors import EtcdError  # noqa: PLC0415

    key = Span(f"{keys.prefix}members/{config.fleet.name}".encode())
    async with _client(config, keys) as client:
        try:
            found = (await client.read(key)).kvs
        except EtcdError as error:
            raise RegistrationFlaw(str(error)) from error
    return found[0].value.decode(errors="replace") if found else None


def _client(config: Config, keys: "EtcdKeys") -> "EtcdClient":
    from pool_service.fleet.engines.etcd.client import EtcdClient  # noqa: PLC0415
    from pool_service.fleet.engines.etcd.configured import AccessFlaw, access_of  # noqa: PLC0415

    try:
        return EtcdClient(access_of(config.etcd, keys))
    except AccessFlaw as flaw:
        raise RegistrationFlaw(str(flaw)) from flaw
