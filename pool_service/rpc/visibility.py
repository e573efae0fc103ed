"""Visibility: which models a caller may know of, and which it may have started.

A model that a caller may not know of does not exist for it: whether there is one or not, its calls
get the same answer, and no text of another answer has its name (`redaction`, `error_redaction`).
"""

from typing import TYPE_CHECKING

from pool_service.access.principal import Principal, Scope
from pool_service.admission import scope_missing
from pool_service.core.errors import ModelUnknown

if TYPE_CHECKING:
    from pool_service.core.catalogue import Entry
    from pool_service.core.server import Server, ServerId
    from pool_service.pool import Pool


class Visibility:
    """Tells which models of one pool a caller may know of."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool

    def allows(self, principal: Principal, model: str) -> bool:
        """Return whether a caller may know of a model: its name or an alias is in its patterns.

        model: "" for what belongs to no model that is known, of which only those may know who may
        know of all.
        """
        patterns = principal.models
        if patterns.is_everything:
            return True
        return bool(model) and patterns.allows((model, *self._pool.models.aliases().get(model, ())))

    def check(self, principal: Principal, name: str) -> None:
        """Raise ModelUnknown unless a caller may know of the model that a name means."""
        if principal.models.is_everything or principal.models.allows((name,)):
            return
        if not self.allows(principal, self._pool.models.resolve(name)):
            raise unknown(principal, name)

    def check_use(self, principal: Principal, name: str, runtime_model: str) -> None:
        """Raise an error unless a caller may have a model started.

        Only an admin may have what is not listed, or a listed model by other files: else a token
        for one model would be good for every directory that the service can read.

        Raises:
            ModelUnknown: the model is not listed, or the caller may not know of it.
            ScopeMissing: the runtime model is not that of the configuration.
        """
        if principal.scope is Scope.ADMIN:
            return
        models = self._pool.models
        model = models.resolve(name)
        if model not in models.aliases() or not self.allows(principal, model):
            raise unknown(principal, name)
        if runtime_model and runtime_model != models.configured(name):
            raise scope_missing(
                principal,
                "admin",
                f"a runtime model other than the configured one needs the scope admin, and "
                f"{principal.name!r} has {principal.scope.name.lower()}. Ask for {name!r} without "
                "a runtime model.",
                name,
            )

    def check_described(self, principal: Principal, name: str) -> None:
        """Raise ModelUnknown unless a caller may know of a model, and what its files are.

        Only an admin may ask about files that no model has: else every caller could find out which
        files the service can read.
        """
        self.check(principal, name)
        models = self._pool.models
        is_known = models.resolve(name) in models.aliases() or models.has_server(name)
        if principal.scope is not Scope.ADMIN and not is_known:
            raise unknown(principal, name)

    def check_evict(self, principal: Principal, name: str) -> None:
        """Raise an error unless a caller may evict a model without force.

        Raises:
            ModelUnknown: the caller may not know of it.
            ScopeMissing: it is pinned, or calls wait for it, and the caller is no admin.
        """
        self.check(principal, name)
        model = self._pool.models.resolve(name)
        if principal.scope is Scope.ADMIN:
            return
        is_waited_for = bool(self._pool.totals().waiting_by_model.get(model))
        if not is_waited_for and not self._pool.models.is_pinned(model):
            return
        raise scope_missing(
            principal,
            "admin",
            f"{'calls wait for' if is_waited_for else 'somebody has pinned'} {name!r}: evicting it "
            f"needs the scope admin, and {principal.name!r} has {principal.scope.name.lower()}. "
            "Try again later, or ask the service's operator.",
            name,
        )

    def servers(self, principal: Principal, after: "ServerId | None", size: int) -> "list[Server]":
        """Return at most `size` servers that a caller may know of; see `Pool.page`."""
        found: list[Server] = []
        while len(found) < size:
            page = self._pool.page(after, size)
            found += [one for one in page if self.allows(principal, one.model)]
            if len(page) < size:
                break
            after = page[-1].id
        return found[:size]

    async def models(
        self, principal: Principal, after: str | None, size: int, *, found: bool
    ) -> "list[Entry]":
        """Return at most `size` models that a caller may know of; see `Models.page`."""
        visible: list[Entry] = []
        while len(visible) < size:
            page = await self._pool.models.page(after, size, found=found)
            visible += [one for one in page if self.allows(principal, one.model)]
            if len(page) < size:
                break
            after = page[-1].model
        return visible[:size]


def unknown(principal: Principal, name: str) -> ModelUnknown:
    """Return the error for a model that does not exist for a caller."""
    return ModelUnknown(
        f"there is no model {name!r} that {principal.name!r} may use. Name one that "
        "'pool-service models' shows as listed, or ask the service's operator to list it in the "
        "configuration, or for a token that allows it.",
        model=name,
    )
