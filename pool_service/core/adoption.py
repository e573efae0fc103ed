"""Adoption: the transitions of a STARTING or READY server that an earlier service has left."""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.server import Phase, Server


def unproven(server: Server, now: float) -> Server:
    """Return the server of an earlier service STARTING again: it has to prove that it is READY."""
    return life.with_start_limit(replace(server, phase=Phase.STARTING, endpoint=""), now)


def rejoined(server: Server, now: float) -> Server:
    """Return the STARTING server of an earlier service, with time for at least one probe left."""
    limited = life.with_start_limit(server, now)
    at_least = now + server.settings.probe_timeout
    return replace(limited, step_deadline=max(limited.step_deadline, at_least))
