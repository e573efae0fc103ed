"""Clients for the commands: which service they call, and how long they retry."""

import click

from pool_service_client import PoolClient, RetryPolicy
from pool_service_client.connect import target

QUERY_TIMEOUT_S = 10.0
"""Time for a query that the service answers without waiting for anything."""


def valid_address(address: str | None) -> str:
    """Return the service's address: the one given, or the default. Raises UsageError."""
    try:
        return target(address)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def retry_policy(timeout: float | None) -> RetryPolicy:
    """Return the policy for a call: no retries, unless the user gave a timeout for them."""
    return RetryPolicy(attempts=1) if timeout is None else RetryPolicy()


def client(address: str | None, timeout: float | None = None) -> PoolClient:
    """Return a client of the service. Raises UsageError.

    timeout: only decides on retries (`retry_policy`); to limit a call, pass it to the call, too.
    """
    return PoolClient.connect(valid_address(address), retry=retry_policy(timeout))


def check_reachable(address: str | None) -> None:
    """Raise PoolError if the service does not answer now.

    For commands whose stream would otherwise wait for a service that is not there.
    """
    with client(address) as pool:
        next(pool.pages(page_size=1, timeout=QUERY_TIMEOUT_S))
