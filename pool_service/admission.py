"""Admission: lets a call in, by gRPC or HTTP, if its caller is known and may make it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import structlog

from pool_service.access.authentication import (
    Authentication,
    CallerUnknown,
    Kind,
    ListenAddress,
    Shown,
)
from pool_service.access.principal import LOCAL, Principal, Scope
from pool_service.address import Address
from pool_service.audit import Audit
from pool_service.core.errors import PoolError, ScopeMissing
from pool_service.event_records import Call
from pool_service.open_calls import OpenCalls

log = structlog.get_logger("pool_service.access")


Refresh = Callable[[], Awaitable[None]]


class Admission:
    """Finds out who calls, checks the caller's scope, and keeps the calls that are refused."""

    def __init__(self, authentication: Authentication, audit: Audit, refresh: Refresh) -> None:
        """refresh: applies changes of the known tokens; awaited where a token is shown."""
        self._authentication = authentication
        self._audit = audit
        self._refresh = refresh
        self._open = OpenCalls()

    def at_once(self, address: ListenAddress, shown: Shown, needed: Scope) -> Principal | None:
        """Return the caller of a call as `principal` does; None: await that, to know or to refuse.

        For callers of this machine, whose calls are frequent.
        """
        if shown.authorization is not None:
            return None
        try:
            principal = self._authentication.principal(address, shown)
        except Exception:  # noqa: BLE001  # `principal` meets it again, and tells it
            return None
        return principal if principal.scope >= needed else None

    async def principal(
        self,
        address: ListenAddress,
        shown: Shown,
        needed: Scope,
        call: Call,
        *checks: Callable[[Principal], None],
    ) -> Principal:
        """Return the caller of a call, who may make it.

        checks: each raises ScopeMissing if the caller lacks what the call needs beside the scope.

        Raises TokenMissing, TokenUnknown, CertificateUnknown or ScopeMissing; or PoolError itself
        if the caller could not be checked, as nobody gets in by a fault.
        """
        principal = None
        try:
            principal = await self._identified(address, shown)
            check_scope(principal, needed, call.method)
            for check in checks:
                check(principal)
        except PoolError as error:
            code = "PERMISSION_DENIED" if isinstance(error, ScopeMissing) else "UNAUTHENTICATED"
            self.keep_refusal(call, principal.name if principal is not None else "", code, error)
            raise
        except Exception as error:
            log.exception("a caller could not be checked", method=call.method)
            unchecked = PoolError(
                "the service could not find out who calls, and refuses the call: see its log."
            )
            self._audit.refused(call, "INTERNAL", unchecked.reason, str(unchecked))
            raise unchecked from error
        return principal

    def keep_refusal(self, call: Call, name: str, code: str, error: PoolError) -> None:
        """Keep a call that is refused. name: the caller's, "" if not known; code: of the status."""
        self._audit.refused(replace(call, principal=name), code, error.reason, str(error))

    def staying(
        self, principal: Principal, address: ListenAddress, shown: Shown, needed: Scope, call: Call
    ) -> AbstractAsyncContextManager[None]:
        """Return a context that ends its block once the caller may no longer make the call.

        See OpenCalls.staying for what it raises.

        principal: the caller, as `principal` has returned it for these arguments.
        """
        local = self._authentication.local

        async def check() -> Principal:
            # Nothing but another rule changes whose a connection is.
            if principal is LOCAL and self._authentication.local is local:
                return principal
            return await self.principal(address, shown, needed, call)

        return self._open.staying(principal, check)

    async def keep_checking(self) -> None:
        """End streams whose callers may no longer make them, until cancelled."""
        await self._open.keep_checking()

    async def _identified(self, address: ListenAddress, shown: Shown) -> Principal:
        if shown.authorization is not None:
            await self._refresh()
        try:
            return self._authentication.principal(address, shown)
        except CallerUnknown as unknown:
            return await asyncio.to_thread(unknown.search)


def check_scope(principal: Principal, needed: Scope, what: str) -> None:
    """Raise ScopeMissing unless a caller may do `what`, which needs a scope."""
    if principal.scope < needed:
        raise scope_missing(
            principal,
            needed.name.lower(),
            f"{what} needs the scope {needed.name.lower()}, and {principal.name!r} has "
            f"{principal.scope.name.lower()}. Ask the service's operator for a token with that "
            "scope.",
        )


def check_logs(principal: Principal) -> None:
    """Raise ScopeMissing unless a caller may read what servers write."""
    if not principal.logs:
        raise scope_missing(
            principal,
            "logs",
            f"{principal.name!r} may not read logs, which can hold parts of prompts. Ask the "
            "service's operator for a token with logs.",
        )


def check_front(principal: Principal, what: str) -> None:
    """Raise ScopeMissing unless a caller is a front of the fleet, as `what` needs."""
    if not principal.fleet:
        raise scope_missing(
            principal,
            "fleet",
            f"{what} is for fronts of the fleet, and {principal.name!r} is none. If it is to be "
            "one, set `fleet = true` for it in the service's configuration.",
        )


def check_every_model(principal: Principal, what: str) -> None:
    """Raise ScopeMissing unless a caller may know of all models, which `what` tells of."""
    if not principal.models.is_everything:
        raise scope_missing(
            principal,
            "every model",
            f"{what} tells of all models, and {principal.name!r} may know of some only. Ask the "
            "service's operator for a token for all models.",
        )


def scope_missing(principal: Principal, needed: str, message: str, model: str = "") -> ScopeMissing:
    """Return the error for a caller that lacks what a call needs. needed: in a word or two."""
    scope = principal.scope.name.lower()
    return ScopeMissing(message, needed=needed, scope=scope, model=model)


def kind_of(address: Address) -> Kind:
    """Return from where an address can be reached."""
    if address.path is not None:
        return Kind.SOCKET
    return Kind.LOOPBACK if address.is_local else Kind.NETWORK
