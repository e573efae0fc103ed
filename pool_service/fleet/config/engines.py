"""The engines that a front may use: who leads, and who is there. Each is written as one text."""

from collections.abc import Callable
from dataclasses import dataclass

from pool_service.access.sans import SanKind, kind_of_san
from pool_service.config.etcd_section import EtcdKeys, etcd_keys, host_and_port
from pool_service.config.types import Flaw


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
    return etcd_keys(rest)


def discovery_of(text: str) -> Discovery | None:
    """Return what knows the members; None: the configuration. Raises Flaw or ValueError."""
    if text == "static":
        return None
    kind, _, rest = text.partition(":")
    readers: dict[str, Callable[[str], Discovery]] = {
        "dns": _dns,
        "etcd": etcd_keys,
    }
    if kind not in readers:
        raise ValueError
    return readers[kind](rest)


def _dns(text: str) -> DnsName:
    name, colon, digits = text.partition(":")
    if colon:
        host_and_port(text)
    name = name.removesuffix(".")
    if kind_of_san(name) is not SanKind.DNS:
        raise Flaw(f"{name!a} is no name of DNS")
    return DnsName(name, int(digits) if colon else None)
