"""Checks across keys about who may call: addresses, certificates and clients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pool_service.access.principal import ADMIN_OF_ALL, LOCAL
from pool_service.address import Address
from pool_service.config.client_section import LIMIT_KEYS, ClientSection
from pool_service.config.errors import KeyPath, key_name
from pool_service.config.tls_section import TlsSection

Contradictions = Iterator[tuple[KeyPath, str]]
"""Keys, each with what is wrong and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Holds what a configuration says of who may call.

    key: that of the addresses. http_listen: the address of the HTTP listener; empty: none.
    no_fronts: why no front calls, as the end of a sentence; empty: fronts may.
    """

    key: KeyPath
    listen: tuple[str, ...]
    http_listen: str
    tls: TlsSection
    clients: Mapping[str, ClientSection]
    no_fronts: str


def access_contradictions(access: Access) -> Contradictions:
    """Yield each key about who may call that contradicts another."""
    yield from _http_contradictions(access)
    yield from _listen_contradictions(access)
    yield from _tls_contradictions(access)
    for name, client in access.clients.items():
        for key, what in _client_problems(name, client, access):
            yield ("clients", name, key), what


def _http_contradictions(access: Access) -> Contradictions:
    listen = access.http_listen
    if not listen:
        return
    for taken in access.listen:
        if Address.parse(listen).overlaps(Address.parse(taken)):
            meant = "" if listen == taken else f" as {taken}"
            there = key_name(access.key)
            what = f"{listen} is in {there} already{meant}; choose another port or path"
            yield ("http", "listen"), what
            return


def _listen_contradictions(access: Access) -> Contradictions:
    reached = [text for text in access.listen if not Address.parse(text).is_local]
    if reached and access.tls.cert is None:
        what = (
            f"{', '.join(reached)} can be reached from other machines, and what is sent there "
            "would not be encrypted: set tls.cert and tls.key, with a certificate for the name by "
            "which callers know this machine; or listen on 127.0.0.1:PORT, [::1]:PORT or unix:PATH"
        )
        yield access.key, what


def _tls_contradictions(access: Access) -> Contradictions:
    tls = access.tls
    for one, other in (("cert", "key"), ("key", "cert")):
        if getattr(tls, one) is not None and getattr(tls, other) is None:
            yield ("tls", one), f"has no effect without {other}; set both or neither"
    if tls.client_ca is not None and tls.cert is None:
        yield ("tls", "client_ca"), "has no effect without cert and key; set these as well"
    if not tls.token_addresses:
        return
    if tls.client_ca is None:
        yield ("tls", "token_addresses"), "has no effect without client_ca; remove it"
    if missing := [text for text in tls.token_addresses if text not in access.listen]:
        there = key_name(access.key)
        what = f"{', '.join(missing)} is not in {there}, as it is written there; add it"
        yield ("tls", "token_addresses"), what


def _front_problems(section: ClientSection, access: Access) -> Iterator[tuple[str, str]]:
    if access.no_fronts:
        yield "fleet", f"has no effect {access.no_fronts}"
    for key in LIMIT_KEYS:
        if key in section.model_fields_set:
            yield key, "does not apply to a front, whose calls are those of others; remove it"


def _client_problems(
    name: str, section: ClientSection, access: Access
) -> Iterator[tuple[str, str]]:
    if name == LOCAL.name:
        yield "token_sha256", f"{name} is the service's own user; give the client another name"
    if not (section.token_sha256 or section.san):
        yield (
            "token_sha256",
            "must be set, or san: nobody is known to be this client otherwise",
        )
    for key, what in (("token_sha256", "make a token"), ("san", "use a name")):
        mine = getattr(section, key)
        same = [other for other, one in access.clients.items() if getattr(one, key) == mine]
        if mine and same[0] != name:
            yield key, f"is that of [clients.{same[0]}], too; {what} for each client"
    if section.san and access.tls.client_ca is None:
        yield "san", "has no effect without tls.client_ca, the authority of callers; set that"
    if section.fleet:
        yield from _front_problems(section, access)
    if section.scope == "admin" and "*" not in section.models:
        yield "models", ADMIN_OF_ALL
