"""One server in the place of another of its model: transitions, as in `lifecycle.py`.

A *successor* starts beside the server that it is to replace. A server that was *superseded* goes
on beside the next one until nothing is in flight on it.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.server import Cause, Exit, Phase, Role, Server
from pool_service.core.types import Diagnosis, ExitReport


def superseded(server: Server, why: str, now: float) -> Server:
    """Return a server that serves no longer, so that its model is free for the next one."""
    report = ExitReport(None, None, Diagnosis.CRASHED, why)
    end = Exit(server.generation, Cause.WEDGED, report, now)
    return replace(server, role=Role.SUPERSEDED, outdated=True, last_exit=end)


def successor(server: Server, now: float) -> Server:
    """Return what is to replace a server that has grown too large, and starts beside it."""
    return Server(
        model=server.model,
        settings=server.settings,
        phase=Phase.QUEUED,
        generation=server.latest + 1,
        created_at=now,
        last_used_at=now,
        keep_alive=server.keep_alive,
        expected=life.bounded(server, server.expected),
        expected_by=server.expected_by,
        role=Role.SUCCESSOR,
    )


def succeeded_by(server: Server, successor: Server) -> Server:
    """Return a server that knows the generation of its successor, should that fail."""
    return replace(server, given=successor.generation)


def retired(server: Server, now: float) -> Server:
    """Return a replaced server, which is handed out no more and ends when nothing is in flight.

    It stays for its residency: until then callers who were just told of it may come.
    """
    return replace(
        server,
        role=Role.SUPERSEDED,
        outdated=True,
        spared_until=now + server.settings.grace_period,
        detail="has grown past its memory ceiling and was replaced; ends with its last request",
    )


def succeeding(server: Server, before: Server) -> Server:
    """Return the successor in the place of the server that it replaces, used as that was."""
    return replace(
        server,
        role=Role.CURRENT,
        keep_alive=before.keep_alive,
        last_used_at=before.last_used_at,
        spared_until=before.spared_until,
        last_exit=before.last_exit,
        crashes=before.crashes,
    )
