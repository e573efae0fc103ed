"""The service's address, and the options of a channel to it."""

import os
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict

from pool_service_client.default_address import UNIX, default_address
from pool_service_client.failover import Channels
from pool_service_client.retry import PolicyOfSeveral, RetryPolicy
from pool_service_client.tls import Tls

ADDRESS_VARIABLE = "POOL_SERVICE_ADDRESS"


class ConnectOptions(TypedDict, total=False):
    """The options of `PoolClient.connect`, which explains them."""

    token: str | None
    token_file: str | PathLike[str] | None
    ca: str | PathLike[str] | None
    cert: str | PathLike[str] | None
    key: str | PathLike[str] | None
    server_name: str | None
    retry: RetryPolicy


def target(address: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """Return the address to use: the one given, or POOL_SERVICE_ADDRESS, or the default one.

    The path of a socket may begin with `~`. Several host:port are separated by commas. Raises
    ValueError if the address is neither host:port nor unix:PATH.
    """
    chosen = address or environ.get(ADDRESS_VARIABLE)
    if not chosen:
        return default_address(environ)
    if chosen.isprintable():
        if _is_socket_path(chosen):
            return _expanded(chosen)
        several = [one.strip() for one in chosen.split(",")]
        if all(map(_is_host_and_port, several)):
            return ",".join(several)
    raise ValueError(
        f"{chosen!r} is no address of a pool service: write host:port or unix:PATH, or several "
        "host:port with commas"
    )


def each_of(target: str) -> list[str]:
    """Return each address of a target, in the order in which they are called."""
    return [target] if target.startswith(UNIX) else target.split(",")


def _expanded(address: str) -> str:
    """Return an address with `~` replaced by the home directory, as gRPC does not do that."""
    path = address.removeprefix(UNIX).removeprefix("//")
    if path == address or not path.startswith("~"):
        return address
    try:
        return f"{UNIX}{Path(path).expanduser()}"
    except RuntimeError as error:
        raise ValueError(f"{address!r} names a home directory that is not known") from error


def _is_socket_path(address: str) -> bool:
    return address.startswith(UNIX) and len(address) > len(UNIX)


def _is_host_and_port(address: str) -> bool:
    host, _, port = address.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host.replace(":", "/")
    return bool(bare) and "/" not in bare and port.isascii() and port.isdigit() and _is_port(port)


def _is_port(digits: str) -> bool:
    return len(digits) <= len("65535") and 0 < int(digits) <= 65535  # noqa: PLR2004


CONNECT_TIMEOUT_MS = 5000
"""The time for a connection where another address could be called instead; by default 20 s."""


def channel_options(*, is_one_of_several: bool = False) -> list[tuple[str, str | int]]:
    """Return options for a service that is near and may be restarted.

    1. No proxy: the environment's would stand between the caller and its own machine.
    2. Short reconnect delays: by default gRPC waits up to two minutes, while the service may be
       back already.
    3. Keepalive pings: they find a peer that vanished while a watch was quiet.
    """
    options: list[tuple[str, str | int]] = [
        ("grpc.primary_user_agent", f"pool-service-client-python/{_version()}"),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if is_one_of_several:
        options.append(("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS))
    return options


def open_channel(api: ModuleType, target: str, tls: Tls | None) -> Any:  # noqa: ANN401 - of `api`
    """Return a channel to an address, or one over several. api: grpc or grpc.aio."""
    addresses = each_of(target)
    options = channel_options(is_one_of_several=len(addresses) > 1)
    channels = [_open_one(api, one, tls, options) for one in addresses]
    return channels[0] if len(channels) == 1 else Channels(channels)


def retry_over(target: str, policy: RetryPolicy) -> RetryPolicy:
    """Return the policy of a client of an address, or of several."""
    count = len(each_of(target))
    return policy if count == 1 else PolicyOfSeveral(policy.patience, policy.attempts, count)


def _open_one(
    api: ModuleType, address: str, tls: Tls | None, options: list[tuple[str, str | int]]
) -> Any:  # noqa: ANN401 - of `api`
    if tls is None:
        return api.insecure_channel(address, options=options)
    return api.secure_channel(address, tls.credentials, options=[*options, *tls.options])


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - slow to import

    try:
        return version("pool-service-client")
    except PackageNotFoundError:
        return "unknown"
