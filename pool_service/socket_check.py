"""The check of a program's unix sockets before it listens."""

from collections.abc import Iterable

from pool_service.adapters.system.os_errors import reason
from pool_service.adapters.system.writers import first_flaw
from pool_service.address import Address, AddressError


def check_sockets(addresses: Iterable[Address]) -> None:
    """Raise AddressError if other users could replace one of the unix sockets."""
    for address in addresses:
        try:
            found = first_flaw([address.path.parent] if address.path else [])
        except OSError as error:
            raise AddressError(f"cannot listen on {address.text}: {reason(error)}.") from error
        if found is not None:
            raise AddressError(
                f"cannot listen on {address.text}: other users could put their own socket "
                f"there: {found}, or choose another path."
            )
