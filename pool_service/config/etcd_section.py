"""The keys of [etcd], with their documentation, and how a configuration names an etcd."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from pydantic import Field

from pool_service.address import Address, AddressError
from pool_service.config.tls_section import File
from pool_service.config.types import DefaultText, Flaw, Form, Section

DEFAULT_PREFIX = "pool-service"
"""The beginning of a fleet's keys in etcd."""

_PREFIX = re.compile(r"[!-.0-~]+(?:/[!-.0-~]+)*")


@dataclass(frozen=True, slots=True)
class EtcdKeys:
    """Keys of an etcd cluster. endpoints: each host:port. prefix: of the keys; ends with /."""

    endpoints: tuple[str, ...]
    prefix: str


class EtcdSection(Section):
    """How etcd is called."""

    ca: File = Field(
        default=None,
        description="The certificates in PEM of the authorities that etcd's certificates are from. "
        "With it, etcd is called by TLS.",
    )
    cert: File = Field(default=None, description="The certificate in PEM that etcd is shown.")
    key: File = Field(default=None, description="Its private key in PEM, without a password.")
    user: Annotated[
        str,
        Field(strict=True),
        Form("text", "the name of a user of etcd, in quotes"),
        DefaultText("none"),
    ] = Field(default="", description="The user of etcd, if etcd asks for one.")
    password_file: File = Field(
        default=None,
        description="The file with the user's password. Nobody but you may read it.",
    )


def etcd_keys(text: str) -> EtcdKeys:
    """Return the keys that HOST:PORT,HOST:PORT[/PREFIX] stands for. Raises Flaw."""
    listed, slash, rest = text.partition("/")
    endpoints = tuple(host_and_port(one.strip()) for one in listed.split(","))
    prefix = rest.removesuffix("/") if slash else DEFAULT_PREFIX
    if _PREFIX.fullmatch(prefix) is None:
        raise Flaw(
            f"{f'/{rest}'!a} is no prefix of keys; write one such as /{DEFAULT_PREFIX}, or leave "
            "it out"
        )
    return EtcdKeys(endpoints, f"{prefix}/")


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
