"""Servers beside the one that bears their model's name: transitions, as in `lifecycle.py`.

A *successor* starts beside the server that it is to replace. A server that was *replaced* goes on
*aside* until nothing is in flight on it. Both go by a name that no caller can ask for.
"""

from dataclasses import replace

from pool_service.core import lifecycle as life
from pool_service.core.types import Cause, Diagnosis, Exit, ExitReport, Phase, Server


def successor(server: Server, generation: int, now: float) -> Server:
    """Return what is to replace a server that has grown too large, which starts beside it."""
    return Server(
        model=name_beside(server.model, generation),
        settings=server.settings,
        phase=Phase.PREPARING,
        generation=generation,
        created_at=now,
        last_used_at=now,
        keep_alive=server.keep_alive,
        expected=life.bounded(server, server.expected),
        expected_by=server.expected_by,
        serves=server.model,
    )


def succeeding(server: Server, before: Server) -> Server:
    """Return the successor in the place of the server that it replaces, used as that was."""
    return replace(
        server,
        model=before.model,
        serves="",
        keep_alive=before.keep_alive,
        last_used_at=before.last_used_at,
        spared_until=before.spared_until,
        last_exit=before.last_exit,
        crashes=before.crashes,
    )


def retired(server: Server, now: float) -> Server:
    """Return a replaced server, which is handed out no more and ends when nothing is in flight.

    It stays for its residency: until then callers who were just told of it may come.
    """
    return replace(
        aside(server),
        spared_until=now + server.settings.min_residency,
        detail="has grown past its memory ceiling and was replaced; ends with its last request",
    )


def aside(server: Server) -> Server:
    """Return a server under a name of its own, so that its model's is free for the next one."""
    return replace(
        server,
        model=name_beside(server.model, server.generation),
        serves=server.model,
        outdated=True,
    )


def replaced(server: Server, why: str, now: float) -> Server:
    """Return what is left to a model whose process goes on aside: the same as after a death."""
    report = ExitReport(None, None, Diagnosis.CRASHED, why)
    left = life.without_process(life.stopping(server, Cause.WEDGED, why))
    return replace(
        left,
        phase=Phase.SWEEPING,
        stop_cause=Cause.WEDGED,
        last_exit=Exit(server.generation, Cause.WEDGED, report, now),
    )


def name_beside(model: str, generation: int) -> str:
    """Return the name of a model's process that does not bear the model's own: no caller has it."""
    return f"{model} (generation {generation})"
