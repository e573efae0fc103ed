"""Addresses that other machines reach: encrypted, and only for who shows a token or certificate."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509

from pool_service.access import tokens
from pool_service.access.authentication import Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.principal import Principal, Scope
from pool_service.address import Address, AddressError
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.tls import OPTIONS, Tls
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.access.letting_in import admission
from tests.certificates import LOCAL, Authority, Files, Issued, dns, uri
from tests.rpc.bare import server_of
from tests.rpc.serving import Failure, Service, failure, failure_of, serving
from tests.rpc.test_authorization import end_of_stream

EVERYWHERE = "0.0.0.0:0"
TOKEN = tokens.new_token()
SPIFFE = "spiffe://home/engine"
OF_SERVICE, OF_CALLERS, STRANGER = (Authority(name) for name in ("service", "callers", "stranger"))
ENGINE = OF_CALLERS.issue(uri(SPIFFE))


Stub = Any
"""Of the generated code, which has no types."""


def files_of(callers: Authority | None = None) -> Files:
    """Return the files of a service. callers: the authority of their certificates."""
    return Files(OF_SERVICE.issue(*LOCAL), callers.certificate if callers else None)


def rules() -> Rules:
    """A client with a token, which may read, and one with a certificate, which may all."""
    return Rules(
        clients=Clients(
            [
                Client(Principal("reader", Scope.READ), tokens.digest(TOKEN)),
                Client(Principal("engine", Scope.ADMIN, logs=True), sans=frozenset({SPIFFE})),
            ]
        )
    )


@asynccontextmanager
async def encrypted(files: Files, *token_addresses: str) -> AsyncIterator[tuple[Service, str]]:
    """A service that other machines could reach, and its port at localhost."""
    tls = Tls(files, token_addresses)
    async with serving(address=EVERYWHERE, tls=tls, rules=rules()) as service:
        yield service, f"localhost:{service.address.rpartition(':')[2]}"


@asynccontextmanager
async def calling(
    address: str, shown: Issued | None = None, trusted: Authority = OF_SERVICE
) -> AsyncIterator[Stub]:
    """A stub that trusts an authority, and shows a certificate."""
    key, chain = (shown.key, shown.chain) if shown else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted.certificate, key, chain)
    async with grpc.aio.secure_channel(address, credentials) as channel:
        yield pb_grpc.PoolServiceStub(channel)


def shows(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def refusal_of(stub: Stub, metadata: tuple[tuple[str, str], ...] | None = None) -> Failure:
    return await failure(stub.List(pb.ListRequest(), metadata=metadata, timeout=20))


async def cannot_connect(stub: Stub) -> None:
    found = await refusal_of(stub)
    assert (found.code, found.details) == ("UNAVAILABLE", {})


async def test_who_shows_a_token_may_call_and_nobody_else() -> None:
    async with encrypted(files_of()) as (_, address), calling(address) as stub:
        assert (await refusal_of(stub)).reason == "TOKEN_MISSING"
        await stub.List(pb.ListRequest(), metadata=shows(TOKEN))
        assert (await refusal_of(stub, shows(tokens.new_token()))).reason == "TOKEN_UNKNOWN"


async def test_a_certificate_of_a_caller_is_not_asked_for_without_an_authority() -> None:
    async with encrypted(files_of()) as (_, address), calling(address, ENGINE) as stub:
        assert (await refusal_of(stub)).reason == "TOKEN_MISSING"


async def test_what_is_not_encrypted_is_not_understood() -> None:
    async with encrypted(files_of()) as (service, _):
        await cannot_connect(service.stub)


async def test_a_client_that_trusts_another_authority_does_not_connect() -> None:
    async with (
        encrypted(files_of()) as (_, address),
        calling(address, trusted=STRANGER) as stub,
    ):
        await cannot_connect(stub)


async def test_a_client_is_known_by_the_name_of_its_certificate() -> None:
    files = files_of(OF_CALLERS)
    async with encrypted(files) as (_, address), calling(address, ENGINE) as stub:
        await stub.List(pb.ListRequest())
        # Of its token it has the rights of that alone.
        await stub.List(pb.ListRequest(), metadata=shows(TOKEN))
        found = await failure(stub.Evict(pb.EvictRequest(all=True), metadata=shows(TOKEN)))
        assert found.reason == "SCOPE_MISSING"
        await stub.Evict(pb.EvictRequest(all=True))


@pytest.mark.parametrize(
    ("names", "common_name", "told"),
    [
        ((uri("spiffe://home/other"),), "", "(spiffe://home/other)"),
        ((uri(f"{SPIFFE}/more"),), "", SPIFFE),
        ((uri(SPIFFE.replace("engine", "ENGINE")),), "", "ENGINE"),
        # An authority may let callers choose a DNS name.
        ((dns(SPIFFE),), "", "common name"),
        ((), SPIFFE, "common name"),
    ],
)
async def test_a_certificate_of_nobody_is_unknown(
    names: tuple[x509.GeneralName, ...], common_name: str, told: str
) -> None:
    nobody = OF_CALLERS.issue(*names, common_name=common_name)
    files = files_of(OF_CALLERS)
    async with encrypted(files) as (_, address), calling(address, nobody) as stub:
        found = await refusal_of(stub)
        assert (found.code, found.reason) == ("UNAUTHENTICATED", "CERTIFICATE_UNKNOWN")
        assert told in found.message
        # A token is enough beside it.
        await stub.List(pb.ListRequest(), metadata=shows(TOKEN))


async def test_an_error_repeats_a_few_names_of_a_certificate() -> None:
    nobody = OF_CALLERS.issue(*(uri(f"spiffe://home/{'x' * 90}{n}") for n in range(50)))
    files = files_of(OF_CALLERS)
    async with encrypted(files) as (_, address), calling(address, nobody) as stub:
        found = await refusal_of(stub)
        assert found.reason == "CERTIFICATE_UNKNOWN"
        assert found.size < 8192


@pytest.mark.parametrize(
    "shown",
    [
        pytest.param(None, id="none"),
        pytest.param(STRANGER.issue(uri(SPIFFE)), id="another-authority"),
        pytest.param(OF_CALLERS.issue(uri(SPIFFE), lifetime=timedelta(days=-1)), id="expired"),
    ],
)
async def test_without_a_certificate_of_the_authority_nobody_connects(
    shown: Issued | None,
) -> None:
    files = files_of(OF_CALLERS)
    async with encrypted(files) as (_, address), calling(address, shown) as stub:
        await cannot_connect(stub)


async def test_at_an_address_for_tokens_nobody_needs_a_certificate() -> None:
    files = files_of(OF_CALLERS)
    async with encrypted(files, EVERYWHERE) as (_, address), calling(address) as stub:
        assert (await refusal_of(stub)).reason == "TOKEN_MISSING"
        await stub.List(pb.ListRequest(), metadata=shows(TOKEN))


async def test_new_connections_see_the_newest_certificate_and_authority() -> None:
    files = files_of(OF_CALLERS)
    newer = Files(STRANGER.issue(*LOCAL), STRANGER.certificate)
    theirs = STRANGER.issue(uri(SPIFFE))
    async with encrypted(files) as (_, address), calling(address, ENGINE) as before:
        await before.List(pb.ListRequest())
        files.current = newer
        async with calling(address, theirs, STRANGER) as after:
            await after.List(pb.ListRequest())
        async with calling(address, ENGINE, STRANGER) as revoked:
            await cannot_connect(revoked)
        async with calling(address, theirs, OF_SERVICE) as outdated:
            await cannot_connect(outdated)
        # Open connections go on.
        await before.List(pb.ListRequest())


async def test_a_connection_has_an_end_also_for_its_open_streams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    soon = [(name, 300) for name, _ in OPTIONS]
    monkeypatch.setattr("pool_service.rpc.server.TLS_OPTIONS", soon)
    files = files_of(OF_CALLERS)
    async with encrypted(files) as (_, address), calling(address, ENGINE) as stub:
        watch = stub.Watch(pb.WatchRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in watch:
                pass
        assert failure_of(caught.value).code == "UNAVAILABLE"


async def test_streams_end_as_their_certificate_is_no_clients_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pool_service.open_calls.RECHECK_S", 0.01)
    known = rules()
    tls = Tls(files_of(OF_CALLERS))
    async with serving(address=EVERYWHERE, tls=tls, rules=known) as service:
        address = f"localhost:{service.address.rpartition(':')[2]}"
        async with calling(address, ENGINE) as stub:
            watch = stub.Watch(pb.WatchRequest())
            await watch.read()
            known.clients = Clients()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await end_of_stream(watch)
            assert failure_of(caught.value).reason == "CERTIFICATE_UNKNOWN"


async def test_without_certificates_a_service_listens_where_nobody_else_reaches_it() -> None:
    servicer = PoolServicer(None, None, None, None, None)  # type: ignore[arg-type]
    server = server_of(servicer, admission())
    with pytest.raises(AddressError, match="nothing would be encrypted"):
        await server.start([Address.parse(EVERYWHERE)])


async def test_loopback_and_sockets_are_as_they_are_without_certificates() -> None:
    files = files_of(OF_CALLERS)
    async with serving(tls=Tls(files), rules=rules()) as service:
        await asyncio.wait_for(service.stub.List(pb.ListRequest()), 20)
