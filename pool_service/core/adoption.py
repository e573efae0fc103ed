"""Adoption: the transitions of a STARTING or READY server that an earlier service has left."""

from dataclasses import replace

from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER


def unproven(server: Server, now: float) -> Server:
    """Return the server of an earlier service STARTING again: it has to prove that it is READY."""
    return replace(
        server,
        phase=Phase.STARTING,
        endpoint="",
        step_deadline=now + server.settings.start_timeout,
    )


def rejoined(server: Server, now: float) -> Server:
    """Return the STARTING server of an earlier service, with time for at least one probe left.

    Its deadline is that of the record, unless the settings have no start timeout any more.
    """
    if server.settings.start_timeout == FOREVER:
        return replace(server, step_deadline=FOREVER)
    left = max(server.step_deadline, now + server.settings.probe_timeout)
    return replace(server, step_deadline=left)
