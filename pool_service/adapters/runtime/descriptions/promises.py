"""The promises that the pool keeps with a program, and by what, in words. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from pool_service.core.activity import UseSignals


@dataclass(frozen=True, slots=True)
class Promise:
    """Says how one promise of the pool is kept with a program.

    subject: what it is about, in a word or two.
    how: what holds, and by what.
    """

    subject: str
    how: str


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Holds what the pool knows of the servers of one runtime.

    health_path, ready_path: as in a launch plan.
    use: where they report their use. missing: requests that are in no count, in words.
    drains: they finish their requests after SIGTERM.
    has_keys: each has a key of its own.
    """

    health_path: str
    ready_path: str
    use: UseSignals
    drains: bool
    has_keys: bool
    missing: str = ""


def promises_of(behaviour: Behaviour) -> Iterator[Promise]:
    """Yield the promises that are kept with servers that behave so."""
    yield Promise("ready", _ready(behaviour))
    yield Promise("in flight", _in_flight(behaviour))
    yield Promise("last use", _last_use(behaviour.use))
    yield Promise("stop", _at_a_stop(drains=behaviour.drains))
    yield Promise("keys", _keys(has_keys=behaviour.has_keys))


def _ready(behaviour: Behaviour) -> str:
    by_health = f"once {behaviour.health_path} answers healthy"
    if not behaviour.ready_path:
        return by_health
    return f"{by_health}, and {behaviour.ready_path} has answered one small request"


def _in_flight(behaviour: Behaviour) -> str:
    if not behaviour.use.gauges:
        return "seen by open connections: a server that has one is stopped for nobody"
    counted = "seen by the program's own count of requests"
    if behaviour.use.counts_all:
        return counted
    leaves_out = behaviour.missing or "requests that it prepares"
    return (
        f"{counted}, and by open connections, since the count leaves out {leaves_out}: a server "
        "that has a connection is stopped for nobody"
    )


def _last_use(use: UseSignals) -> str:
    if use.counters:
        return "each request is a use, also one that comes and goes between two checks"
    return "a request that comes and goes between two checks is not seen"


def _at_a_stop(*, drains: bool) -> str:
    if drains:
        return "the program finishes its requests after SIGTERM"
    return "the program gets SIGTERM when no request is in flight, or at the end of drain_timeout"


def _keys(*, has_keys: bool) -> str:
    if has_keys:
        return "each server has a key of its own, without which it answers 401"
    return "none: every program of this machine can use a server"
