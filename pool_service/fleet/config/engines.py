"""The engines that a front may use: who leads, and who is there. Each is written as one text."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address

from pool_service.access.sans import SanKind, kind_of_san
from pool_service.address import Address, AddressError
from pool_service.config.types import Flaw

DEFAULT_PREFIX = "pool-service"
"""The beginning of a fleet's keys in etcd."""

_PREFIX = re.compile(r"[!-.0-~]+(?:/[!-.0-~]+)*")


@dataclass(frozen=True, slots=True)
class EtcdKeys:
    """Keys of an etcd cluster. endpoints: each host:port. prefix: of the keys; ends with /."""

    endpoints: tuple[str, ...]
    prefix: str


@dataclass(frozen=True, slots=True)
class DnsName:
    """A name whose SRV records are the members; with a port, its addresses are."""

    name: str
    port: int | None


Leader = EtcdKeys
Discovery = DnsName | EtcdKeys


def leader_of(text: str) -> Leader | None:
    """Return what decides who leads; None: this front alone. Raises Flaw or ValueError."""
    if text == "none":
        return None
    kind, _, rest = text.partition(":")
    if kind != "etcd":
        raise ValueError
    return _etcd(rest)


def discovery_of(text: str) -> Discovery | None:
    """Return what knows the members; None: the configuration. Raises Flaw or ValueError."""
    if text == "static":
        return None
    kind, _, rest = text.partition(":")
    readers: dict[str, Callable[[str], Discovery]] = {
        "dns": _dns,
        "etcd": _etcd,
    }
    if kind not in readers:
        raise ValueError
    return readers[kind](rest)


def host_and_port(text: str) -> str:
    """Return an address that can be called, as host:port. Raises Flaw."""
    try:
        address = Address.parse(text)
    except AddressError as error:
        raise Flaw(f"{text!a} is not an address that can be called; write host:port") from error
    if address.path is not None or int(text.rpartition(":")[2]) == 0 or _is_any(host_of(text)):
        raise Flaw(f"{text!a} is not an address that can be called; write host:port")
    return text


def host_of(address: str) -> str:
    """Return the host of host:port, without brackets."""
    return address.rpartition(":")[0].removeprefix("[").removesuffix("]")


def _is_any(host: str) -> bool:
    try:
        return ip_address(host).is_unspecified
    except ValueError:
        return False


def _etcd(text: str) -> EtcdKeys:
    listed, slash, rest = text.partition("/")
    endpoints = tuple(host_and_port(one.strip()) for one in listed.split(","))
    prefix = rest.removesuffix("/") if slash else DEFAULT_PREFIX
    if _PREFIX.fullmatch(prefix) is None:
        raise Flaw(
            f"{f'/{rest}'!a} is no prefix of keys; write one such as /{DEFAULT_PREFIX}, or leave "
            "it out"
        )
    return EtcdKeys(endpoints, f"{prefix}/")


def _dns(text: str) -> DnsName:
    name, colon, digits = text.partition(":")
    if colon:
        host_and_port(text)
    name = name.removesuffix(".")
    if kind_of_san(name) is not SanKind.DNS:
        raise Flaw(f"{name!a} is no name of DNS")
    return DnsName(name, int(digits) if colon else None)
