"""The keys of [tls], with their documentation."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from pool_service.address import Address, AddressError
from pool_service.config.types import DefaultText, Flaw, Form, Section, split_commas
from pool_service.paths import PathFlaw, absolute


def _file(value: object) -> object:
    if not isinstance(value, str | Path):
        return value
    try:
        return absolute(str(value))
    except PathFlaw as error:
        raise Flaw(str(error)) from error


def _network_address(text: str) -> str:
    try:
        address = Address.parse(text)
    except AddressError as error:
        raise Flaw(str(error).rstrip(".")) from error
    if address.is_local:
        raise Flaw(f"{text} is on this machine, where nobody needs a certificate; leave it out")
    return address.text


File = Annotated[
    Annotated[Path, BeforeValidator(_file)] | None,
    Form("file", "the path of a file, in quotes"),
    DefaultText("none"),
]


class TlsSection(Section):
    """Encryption of the addresses that other machines reach."""

    cert: File = Field(
        default=None,
        description="The certificate of the service in PEM, and after it those between it and its "
        "authority. Each address of `service.listen` that other machines reach speaks TLS with it; "
        "sockets and loopback do not. When you replace the files, new connections get the new "
        "certificate within seconds, without a reload; while they do not fit together, the last "
        "good one is used.",
    )
    key: File = Field(
        default=None,
        description="Its private key in PEM, without a password. Nobody but you, and your group if "
        "you like, may read the file.",
    )
    client_ca: File = Field(
        default=None,
        description="The certificates in PEM of the authorities that issue certificates to "
        "callers. With it every caller of an address that other machines reach has to show one; "
        "which client it is depends on its names (`san` of `[clients.NAME]`).",
    )
    token_addresses: Annotated[
        tuple[Annotated[str, Field(strict=True), AfterValidator(_network_address)], ...],
        Form("list of addresses", 'a list of addresses, such as ["0.0.0.0:50052"]', split_commas),
    ] = Field(
        default=(),
        description="Addresses of `service.listen` where callers show no certificate but a token, "
        "although `client_ca` is set. (On one address the service can demand certificates or not "
        "ask for them.)",
    )
