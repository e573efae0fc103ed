"""Clients for the commands: which service they call, and how long they retry."""

from typing import TypeVar

import click

from pool_service.cli.options import Target
from pool_service_client import AsyncPoolClient, PoolClient, RetryPolicy
from pool_service_client.connect import target as address_of

QUERY_TIMEOUT_S = 10.0
"""Time for a query that the service answers without waiting for anything."""

C = TypeVar("C", PoolClient, AsyncPoolClient)


def valid_address(target: Target) -> str:
    """Return the service's address: the one given, or the default. Raises UsageError."""
    try:
        return address_of(target.address)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def retry_policy(timeout: float | None) -> RetryPolicy:
    """Return the policy for a call: no retries, unless the user gave a timeout for them."""
    return RetryPolicy(attempts=1) if timeout is None else RetryPolicy()


def connected(kind: type[C], target: Target, retry: RetryPolicy | None = None) -> C:
    """Return a client of a kind. Raises UsageError. retry: None: the client's own policy."""
    try:
        return kind.connect(
            target.address,
            token_file=target.token_file,
            ca=target.ca,
            cert=target.cert,
            key=target.key,
            retry=retry or RetryPolicy(),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def client(target: Target, timeout: float | None = None) -> PoolClient:
    """Return a client of the service. Raises UsageError.

    timeout: only decides on retries (`retry_policy`); to limit a call, pass it to the call, too.
    """
    return connected(PoolClient, target, retry_policy(timeout))


def check_reachable(target: Target) -> None:
    """Raise PoolError if the service does not answer now.

    For commands whose stream would otherwise wait for a service that is not there.
    """
    with client(target) as pool:
        next(pool.pages(page_size=1, timeout=QUERY_TIMEOUT_S))
