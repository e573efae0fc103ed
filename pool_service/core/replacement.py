"""Replacement: transitions of servers that replace, or are replaced, as in `lifecycle.py`.

A *successor* starts beside the current server, to replace it. A *superseded* server drains beside
the current one.
"""

from dataclasses import replace

from pool_service.core import measuring
from pool_service.core.server import Cause, Exit, Phase, Role, Server
from pool_service.core.types import Diagnosis, ExitReport


def superseded(server: Server, why: str, now: float) -> Server:
    """Return the server SUPERSEDED by failure, with that as last exit; why: in words."""
    report = ExitReport(None, None, Diagnosis.CRASHED, why)
    end = Exit(server.generation, Cause.WEDGED, report, now)
    return replace(server, role=Role.SUPERSEDED, outdated=True, last_exit=end)


def successor(server: Server, now: float) -> Server:
    """Return the successor of a server, to be started beside it."""
    return Server(
        model=server.model,
        settings=server.settings,
        phase=Phase.QUEUED,
        generation=server.last_generation + 1,
        created_at=now,
        last_used_at=now,
        keep_alive=server.keep_alive,
        expected=measuring.bounded(server, server.expected),
        expected_by=server.expected_by,
        usual_load_s=server.usual_load_s,
        account=server.account,
        role=Role.SUCCESSOR,
    )


def succeeded_by(server: Server, successor: Server) -> Server:
    """Return the server with its successor's generation, which then is not given out again."""
    return replace(server, successor_generation=successor.generation)


def retired(server: Server, now: float) -> Server:
    """Return the server SUPERSEDED by its successor: it ends when nothing is in flight.

    The server stays for its grace period, since callers that were just given it may still come.
    """
    return replace(
        server,
        role=Role.SUPERSEDED,
        outdated=True,
        spared_until=now + server.settings.grace_period,
        detail="has grown past its memory limit and was replaced; ends with its last request",
    )


def succeeding(server: Server, before: Server) -> Server:
    """Return the successor CURRENT, with the last use, keep alive and crashes of `before`."""
    return replace(
        server,
        role=Role.CURRENT,
        keep_alive=before.keep_alive,
        last_used_at=before.last_used_at,
        spared_until=before.spared_until,
        last_exit=before.last_exit,
        crashes=before.crashes,
    )
