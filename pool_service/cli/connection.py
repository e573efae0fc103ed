"""To which service the commands speak, and how persistently."""

import click

from pool_service_client import PoolClient, RetryPolicy
from pool_service_client.connect import target

PATIENCE_S = 10.0
"""Seconds; for questions that a service answers at once."""


def valid(address: str | None) -> str:
    """The address to use; one that makes no sense is an error of the command line."""
    try:
        return target(address)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def retries(timeout: float | None) -> RetryPolicy:
    """A person is told of a failure at once, unless they said how long it may take."""
    return RetryPolicy(attempts=1) if timeout is None else RetryPolicy()


def client(address: str | None, timeout: float | None = None) -> PoolClient:
    """A client that is as persistent as `retries` says."""
    return PoolClient.connect(valid(address), retry=retries(timeout))


def check_reachable(address: str | None) -> None:
    """Raise if no service answers now, before a stream that would outlive its absence."""
    with client(address) as pool:
        next(pool.pages(page_size=1, timeout=PATIENCE_S))
