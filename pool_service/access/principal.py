"""Principals: the callers that the service knows, with what each of them may do."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from enum import IntEnum
from fnmatch import translate
from functools import cached_property
from typing import Final

from pool_service.core.types import FOREVER, Account


class Scope(IntEnum):
    """Ranks what callers may do; each scope includes those below it."""

    READ = 1
    """See servers and models."""

    USE = 2
    """Also start and hold listed models, and evict unused ones."""

    ADMIN = 3
    """Also what touches others: evictions by force, pins, reloads, models that are not listed."""


@dataclass(frozen=True)
class ModelPatterns:
    """Patterns of the models that a caller may know of; `*` and `?` are wildcards.

    within: patterns that must allow a model as well; None: there are none.
    """

    patterns: tuple[str, ...] = ("*",)
    within: "ModelPatterns | None" = None

    @cached_property
    def is_everything(self) -> bool:
        """Whether every model is allowed."""
        return "*" in self.patterns and (self.within is None or self.within.is_everything)

    def allows(self, names: Collection[str]) -> bool:
        """Return whether a model is allowed. names: its name and its aliases."""
        if self.is_everything:
            return True
        if self.within is not None and not self.within.allows(names):
            return False
        return "*" in self.patterns or any(map(self._any_of.fullmatch, names))

    def both(self, other: "ModelPatterns") -> "ModelPatterns":
        """Return patterns that allow the models that these allow and `other` as well."""
        if other.is_everything:
            return self
        if self.is_everything:
            return other
        return ModelPatterns(
            self.patterns, other if self.within is None else self.within.both(other)
        )

    @cached_property
    def alone(self) -> tuple[str, ...] | None:
        """The patterns that allow the same without `within`; None: one list cannot say it."""
        if self.within is None:
            return self.patterns
        others = self.within.alone
        if others is None:
            return None
        for some, more in ((self.patterns, others), (others, self.patterns)):
            if "*" in more or set(some) <= set(more):
                return some
        return None

    @cached_property
    def _any_of(self) -> re.Pattern[str]:
        # Without patterns nothing matches, not even an empty name.
        # A bracket is nothing special: it would be in no name that is meant by accident.
        escaped = (pattern.replace("[", "[[]") for pattern in self.patterns)
        return re.compile("|".join(map(translate, escaped)) or r"(?!)")


ADMIN_OF_ALL: Final = (
    "an admin may stop every server and reload the configuration, so it must be allowed all "
    "models. Name no models for it, or give it the scope use"
)
"""The error for an admin of some models only."""


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """The limits of one caller.

    holds: open holds.
    waiting: calls that wait until a server is READY.
    streams: open streams of Watch, TailLogs and Pull.
    starts_per_minute: starts of servers.
    memory_share: the part of the memory budget for the servers that are started for it, 0 to 1.
    """

    holds: float = 32
    waiting: float = 64
    streams: float = 32
    starts_per_minute: float = 30
    memory_share: float = 1


UNLIMITED: Final = CallerLimits(FOREVER, FOREVER, FOREVER, FOREVER)


@dataclass(frozen=True)
class Principal:
    """A caller that the service knows.

    name: for the audit; "local" for the service's own user.
    scope: what the caller may do.
    logs: whether the caller may read what servers write, which can hold parts of prompts.
    models: which models the caller may know of.
    limits: bounds for the caller's calls.
    fleet: whether the caller is a front of the fleet, which may call for its own callers.
    """

    name: str
    scope: Scope
    logs: bool = False
    models: ModelPatterns = field(default_factory=ModelPatterns)
    limits: CallerLimits = field(default_factory=CallerLimits)
    fleet: bool = False

    @cached_property
    def account(self) -> Account | None:
        """The account for the servers that are started for the caller; None: it needs none."""
        share = self.limits.memory_share
        return Account(self.name, share) if share < 1 else None

    @cached_property
    def sees_all(self) -> bool:
        """Whether nothing has to be left out of answers to this caller."""
        return self.models.is_everything and self.logs and self.scope is Scope.ADMIN


LOCAL: Final = Principal("local", Scope.ADMIN, logs=True, limits=UNLIMITED, fleet=True)
"""The service's own user, by the socket or by loopback."""
