"""The keys of [fleet], with their documentation."""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated

from pydantic import AfterValidator, Field

from pool_service.access.fleet import FleetSettings
from pool_service.config.durations import Seconds
from pool_service.config.etcd_section import DEFAULT_PREFIX, EtcdKeys, etcd_keys, host_and_port
from pool_service.config.types import DefaultText, Flaw, Form, Section, SectionName, Switch

HOLD_GRACE_S = 15.0
"""Longer than it takes until another front of the fleet leads."""


def _advertised(text: str) -> str:
    """Check the address at which servers listen, and return it in its usual spelling."""
    if not text:
        return text
    try:
        address = ip_address(text)
    except ValueError:
        raise Flaw(
            f"{text!a} is no IP address. Servers listen on exactly this address, so write that of "
            "this machine itself, such as 10.0.0.11 or fd00::11, without a port and brackets"
        ) from None
    if flaw := _address_flaw(address):
        raise Flaw(f"{text} {flaw}")
    return str(address)


def _address_flaw(address: IPv4Address | IPv6Address) -> str:
    """Return why other hosts cannot reach servers at an address, or must not; empty if they may."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return f"is an address of IPv4 in the form of IPv6; write {address.ipv4_mapped}"
    if address.is_unspecified:
        return (
            "stands for all addresses of this machine, and nobody can call it by that; name the "
            "one by which the other hosts of the fleet reach it"
        )
    if address.is_loopback:
        return ""
    cases = (
        (
            address.is_multicast or address.is_reserved,
            "is no address that one machine has; name one of this machine",
        ),
        (
            address.is_link_local,
            (
                "is only valid together with a network interface, whose name differs from machine "
                "to machine; name an address that is valid in the whole network of the fleet"
            ),
        ),
        (
            address.is_global,
            (
                "can be reached from the whole internet, and what is sent to servers is not "
                "encrypted; name an address of a private network, such as that of a VPN"
            ),
        ),
    )
    return next((flaw for applies, flaw in cases if applies), "")


Advertised = Annotated[
    str,
    Field(strict=True),
    AfterValidator(_advertised),
    Form("IP address", 'an IP address of this machine in quotes, such as "10.0.0.11"'),
]
_REGISTRY = '"none" or "etcd:HOST:PORT,HOST:PORT[/PREFIX]"'


def _registry(text: str) -> str:
    _keys_of(text)
    return text


def _keys_of(text: str) -> EtcdKeys | None:
    """Return the keys of `registry`; None: it is none. Raises Flaw or ValueError."""
    if text == "none":
        return None
    kind, _, rest = text.partition(":")
    if kind != "etcd":
        raise ValueError
    return etcd_keys(rest)


def _registered(text: str) -> str:
    return host_and_port(text) if text else text


HostName = Annotated[
    SectionName, Field(strict=True), Form("text", "the name of this host, in quotes")
]


class FleetSection(Section):
    """This service as a member of a fleet: a pool over several hosts, behind fronts."""

    name: Annotated[HostName, DefaultText("none: the service is no member of a fleet")] = Field(
        default="",
        description="The name of this host in the fleet, as its fronts know it and its servers "
        "show it. The other keys of this section need it.",
    )
    advertise: Annotated[
        Advertised, DefaultText("none: servers listen on 127.0.0.1, where only this machine is")
    ] = Field(
        default="",
        description="The IP address of this machine by which the other hosts of the fleet reach "
        "it. Servers listen on exactly this address, and their endpoints have it. They speak no "
        "TLS, so it must be of a private network. Without it no front places a model here. An "
        "address of loopback, such as 127.0.0.2, is for a fleet that is tried on one machine.",
    )
    only_fleet: Switch = Field(
        default=False,
        description="Refuse calls that start or hold models if they do not come through a front "
        "of the fleet.",
    )
    hold_grace: Seconds = Field(
        default=HOLD_GRACE_S,
        description="How long a hold of a front stays after its stream has broken, so that the "
        "server is still there when another front takes over.",
    )
    registry: Annotated[
        str, Field(strict=True), AfterValidator(_registry), Form("registry", _REGISTRY)
    ] = Field(
        default="none",
        description="Where the service says that it is there, for fronts that look for members "
        "there. `none`: nowhere; the fronts list their members. "
        "`etcd:HOST:PORT,HOST:PORT[/PREFIX]`: the key PREFIX/members/NAME in etcd (without PREFIX: "
        f"`{DEFAULT_PREFIX}`), which ends with the service. As `front.discovery` of the fronts.",
    )
    registered_address: Annotated[
        str,
        Field(strict=True),
        AfterValidator(_registered),
        Form("host:port", 'an address of this service, such as "studio.example:50051"'),
        DefaultText("none"),
    ] = Field(
        default="",
        description="How fronts reach this service, as it registers itself. The service's "
        "certificate must have the host of this address, unless the fronts set `member_tls.san`. "
        "Needed with a `registry` other than none.",
    )

    @property
    def leaves_loopback(self) -> bool:
        """Whether other machines reach the servers."""
        return bool(self.advertise) and not ip_address(self.advertise).is_loopback

    @property
    def registry_keys(self) -> EtcdKeys | None:
        """Where the service registers itself; None: nowhere."""
        return _keys_of(self.registry)

    @property
    def settings(self) -> FleetSettings:
        """The same, as the service uses it."""
        return FleetSettings(self.name, self.advertise, self.only_fleet, self.hold_grace)
