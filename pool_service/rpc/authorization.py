"""Authorization: every call is from a known caller who may make it, or is refused.

One place for all methods of all services, reflection and what comes later included. Whatever goes
wrong here ends the call, so that no fault lets anybody in.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import grpc

from pool_service.access.authentication import End, Kind, ListenAddress, Shown
from pool_service.access.fleet import OUTSIDE, FleetCall
from pool_service.access.principal import Principal, Scope
from pool_service.access.sans import SanKind, sans_of
from pool_service.admission import Admission, check_scope
from pool_service.core.errors import PoolError
from pool_service.event_records import Call
from pool_service.open_calls import RightsChanged
from pool_service.rpc.answering import abort
from pool_service.rpc.call_context import CallContext
from pool_service.rpc.fleet_calls import FleetCalls, raw_fleet_call
from pool_service.rpc.malformed import AUTHORIZATION, Wrap
from pool_service.rpc.methods import BY_FRONTS, needed_by
from pool_service.rpc.status import status_of

Context = grpc.aio.ServicerContext[Any, Any]

_SANS = {
    "peer_uri": SanKind.URI,
    "peer_dns": SanKind.DNS,
    "peer_email": SanKind.EMAIL,
    "peer_ip": SanKind.IP,
}
"""Maps gRPC's keys for the names of a verified certificate to the kind of each. (Its
x509_subject_alternative_name does not tell.)"""

_PEM = "x509_pem_cert"
"""gRPC's key for the certificate itself."""

_REMEMBERED_PEERS = 1024
"""Peers whose ends and certificates are not parsed again: some more than there are connections at
one address."""

_NOTHING = Shown()


class Authorization:
    """Lets calls through to handlers, or refuses them."""

    def __init__(self, admission: Admission, fleet_calls: FleetCalls) -> None:
        self._admission = admission
        self._fleet_calls = fleet_calls

    def wrap(self, address: ListenAddress, *, by_metadata: bool) -> Wrap:
        """Return what wraps the handlers of the server that listens at an address.

        by_metadata: whether for the calls whose metadata have one of METADATA_KEYS, or for the
        others.
        """

        def wrap(path: str, handler: Any) -> "grpc.RpcMethodHandler[Any, Any]":  # noqa: ANN401
            needed = needed_by(path)
            if needed is None:
                open_to_all: grpc.RpcMethodHandler[Any, Any] = handler
                return open_to_all
            coders = {
                "request_deserializer": handler.request_deserializer,
                "response_serializer": handler.response_serializer,
            }
            fleet_calls = self._fleet_calls if by_metadata and path in BY_FRONTS else None
            gate = _Gate(
                self._admission, address, path, needed, fleet_calls, by_metadata=by_metadata
            )
            if handler.request_streaming:
                stream = gate.stream(handler.stream_stream)
                return grpc.stream_stream_rpc_method_handler(stream, **coders)
            if handler.response_streaming:
                many = gate.many_responses(handler.unary_stream)
                return grpc.unary_stream_rpc_method_handler(many, **coders)
            one = gate.one_request(handler.unary_unary)
            return grpc.unary_unary_rpc_method_handler(one, **coders)

        return wrap


class _Gate:
    """Admits the calls of one method at one address."""

    def __init__(
        self,
        admission: Admission,
        address: ListenAddress,
        path: str,
        needed: Scope,
        fleet_calls: FleetCalls | None,
        *,
        by_metadata: bool,
    ) -> None:
        """fleet_calls: of calls by fronts; None: such calls are not looked for."""
        self._admission = admission
        self._address = address
        self._method = path.rpartition("/")[2]
        self._needed = needed
        self._fleet_calls = fleet_calls
        self._by_metadata = by_metadata
        self._names = dict[bytes, tuple[str, ...]]()

    def one_request(self, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """Return a handler that admits its caller first, for one request and one response."""

        async def admitted(request: object, context: Context) -> object:
            shown = self._shown(context)
            principal = self._admission.at_once(self._address, shown, self._needed)
            if principal is None:
                try:
                    principal = await self._admitted(context, shown)
                except PoolError as error:
                    await abort(context, status_of(error))
            call = OUTSIDE
            if self._fleet_calls is not None:
                try:
                    principal, call = self._acting(context, principal)
                except PoolError as error:
                    await abort(context, status_of(error))
            return await behaviour(request, CallContext(context, principal, call))

        return admitted

    def many_responses(self, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        """Return a handler that admits its caller first, for one request and a stream."""

        async def admitted(request: object, context: Context) -> None:
            async with self._admitted_while_allowed(context) as (principal, call):
                await behaviour(request, CallContext(context, principal, call))

        return admitted

    def stream(self, behaviour: Callable[..., AsyncGenerator[Any]]) -> Callable[..., Any]:
        """Return a handler that admits its caller first, for two streams."""

        async def admitted(
            requests: AsyncIterator[object], context: Context
        ) -> AsyncGenerator[Any]:
            async with (
                self._admitted_while_allowed(context) as (principal, call),
                aclosing(behaviour(requests, CallContext(context, principal, call))) as responses,
            ):
                async for response in responses:
                    yield response

        return admitted

    @asynccontextmanager
    async def _admitted_while_allowed(
        self, context: Context
    ) -> AsyncIterator[tuple[Principal, FleetCall]]:
        """Admit the caller of a stream, and end the stream once it may no longer make it.

        Of a front's stream the front is checked again, not its epoch: a stream that was opened in
        time goes on under the next leader.
        """
        shown = self._shown(context)
        try:
            principal = await self._admitted(context, shown)
            acting = self._acting(context, principal)
            async with self._admission.staying(
                principal, self._address, shown, self._needed, self._call(context)
            ):
                yield acting
        except PoolError as error:
            await abort(context, status_of(error))
        except RightsChanged as changed:
            # Without a reason, as of a connection that is lost: clients call again by themselves.
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(changed))

    async def _admitted(self, context: Context, shown: Shown) -> Principal:
        """Return the caller, who may call this method. Raises PoolError."""
        call = self._call(context)
        return await self._admission.principal(self._address, shown, self._needed, call)

    def _acting(self, context: Context, principal: Principal) -> tuple[Principal, FleetCall]:
        """Return on whose behalf a caller calls, and what it says with the call as a front.

        Raises PoolError, and keeps the call then.
        """
        raw = None if self._fleet_calls is None else raw_fleet_call(context.invocation_metadata())
        if raw is None or self._fleet_calls is None:
            return principal, OUTSIDE
        acting = principal
        try:
            acting, call = self._fleet_calls.admit(principal, raw)
            check_scope(acting, self._needed, self._method)
        except PoolError as error:
            code = status_of(error).code.name
            self._admission.keep_refusal(self._call(context), acting.name, code, error)
            raise
        return acting, call

    def _call(self, context: Context) -> Call:
        return Call(self._method, "", context.peer())

    def _shown(self, context: Context) -> Shown:
        address = self._address
        header = _authorization(context) if self._by_metadata else None
        # Only on loopback the user at the other end decides.
        if address.kind is Kind.LOOPBACK:
            return Shown(end_of(context.peer()), header)
        sans = self._sans(context) if address.demands_certificate else None
        return _NOTHING if header is None and sans is None else Shown(None, header, sans)

    def _sans(self, context: Context) -> tuple[str, ...]:
        return _names_of(context.auth_context(), self._names)


def _names_of(
    shown: Mapping[str, Iterable[bytes]], known: dict[bytes, tuple[str, ...]]
) -> tuple[str, ...]:
    """Return the names of a certificate that count. known: those of other certificates."""
    certificate = b"".join(shown.get(_PEM, ()))
    names = known.get(certificate)
    if names is None or not certificate:
        texts = {
            kind: [name.decode("utf-8", "replace") for name in shown.get(key, ())]
            for key, kind in _SANS.items()
        }
        names = sans_of(texts)
        if len(known) >= _REMEMBERED_PEERS:
            known.clear()
        known[certificate] = names
    return names


def _authorization(context: Context) -> str | None:
    """Return the authorization header; None if there is none, "" if there are several."""
    found: str | bytes | None = None
    for key, value in context.invocation_metadata() or ():
        if key == AUTHORIZATION:
            found = value if found is None else ""
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else found


@lru_cache(_REMEMBERED_PEERS)
def end_of(peer: str) -> End | None:
    """Return the end of a TCP connection that gRPC names so; None if it is of another kind.

    gRPC writes "ipv4:127.0.0.1:4711" and "ipv6:%5B::1%5D:4711".
    """
    family, _, rest = peer.partition(":")
    host, _, port = unquote(rest).rpartition(":")
    if family not in {"ipv4", "ipv6"} or not (port.isascii() and port.isdigit()):
        return None
    return host.strip("[]"), int(port)
