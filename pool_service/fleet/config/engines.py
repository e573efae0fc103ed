"""The engines that a front may use: who leads, and who is there. Each is written as one text."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pool_service.access.sans import SanKind, kind_of_san
from pool_service.address import LARGEST_PORT
from pool_service.config.etcd_section import EtcdKeys, etcd_keys, host_and_port
from pool_service.config.types import Flaw

DEFAULT_LEASE = "pool-service"
"""The name of the Lease of a fleet in Kubernetes."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAMESPACED = re.compile(rf"({_LABEL})/({_LABEL}(?:\.{_LABEL})*)")
_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class DnsName:
    """A name whose SRV records are the members; with a port, its addresses are."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class LeaseName:
    """A Lease of Kubernetes. namespace: empty: the one that the front's pod is in."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service of Kubernetes whose endpoints are the members.

    port: its number, or its name in the Service; None: the only one, or the one named grpc.
    """

    namespace: str
    name: str
    port: int | str | None


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A cluster of Ray, of whose nodes some are members. address: of its head, as host:port."""

    address: str


Leader = EtcdKeys | LeaseName
Discovery = DnsName | EtcdKeys | RayCluster | ServiceName


def leader_of(text: str) -> Leader | None:
    """Return what decides who leads; None: this front alone. Raises Flaw or ValueError."""
    if text == "none":
        return None
    kind, colon, rest = text.partition(":")
    if kind == "etcd":
        return etcd_keys(rest)
    if kind != "kubernetes":
        raise ValueError
    return LeaseName(*_namespaced(rest)) if colon else LeaseName("", DEFAULT_LEASE)


def discovery_of(text: str) -> Discovery | None:
    """Return what knows the members; None: the configuration. Raises Flaw or ValueError."""
    if text == "static":
        return None
    kind, _, rest = text.partition(":")
    readers: dict[str, Callable[[str], Discovery]] = {
        "dns": _dns,
        "etcd": etcd_keys,
        "kubernetes": _service,
        "ray": _ray,
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


def _ray(text: str) -> RayCluster:
    return RayCluster(host_and_port(text))


def _service(text: str) -> ServiceName:
    name, colon, port = text.partition(":")
    return ServiceName(*_namespaced(name), _port(port) if colon else None)


def _namespaced(text: str) -> tuple[str, str]:
    """Return the namespace and the name of an object. Raises ValueError."""
    found = _NAMESPACED.fullmatch(text)
    if found is None:
        raise ValueError
    return found[1], found[2]


def _port(text: str) -> int | str:
    if text.isascii() and text.isdigit() and 0 < int(text) <= LARGEST_PORT:
        return int(text)
    if _PORT_NAME.fullmatch(text) is None:
        raise Flaw(f"{text!a} is neither the number nor the name of a port of a Service")
    return text
