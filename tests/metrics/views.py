"""Views of made-up servers and counts."""

from collections.abc import Sequence

from pool_service.core.results import Totals
from pool_service.core.server import Phase, Role, Server
from pool_service.core.types import Settings
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.pool_counts import PoolCounts
from pool_service.metrics.values import Histogram, ModelLabels
from pool_service.metrics.view import View

SETTINGS = Settings(runtime_model="r")


def server(model: str, phase: Phase = Phase.READY, **more: object) -> Server:
    values = {
        "settings": SETTINGS,
        "generation": 1,
        "created_at": 0.0,
        "last_used_at": 5.0,
        "keep_alive": 300.0,
        "role": Role.CURRENT,
        **more,
    }
    return Server(model=model, phase=phase, **values)  # type: ignore[arg-type]


def totals(**more: object) -> Totals:
    values = {"by_phase": dict.fromkeys(Phase, 0), "servers": 0, "waiting_calls": 0, **more}
    return Totals(**values)  # type: ignore[arg-type]


def view(servers: Sequence[Server] = (), **more: object) -> View:
    """A view; without more, of an idle service. It has a count of each family."""
    labels = ModelLabels(lambda model: not model.startswith("other"))
    counts = PoolCounts(labels, lambda: 0.0)
    counts.starts.add("m", "cold", "ready")
    counts.exits.add("m", "IDLE")
    counts.kills.add("m")
    counts.loads["m"] = 1, 1.5
    calls = CallCounts()
    calls.end("Ensure", "OK", 0.002)
    calls.open_stream("Watch")
    values = {
        "version": "1.2.3",
        "started_at": 1000.5,
        "servers": servers,
        "totals": totals(memory_total=64, memory_current=True),
        "labels": labels,
        "wall": lambda at: 1000.0 + at,
        "pool": counts,
        "calls": calls,
        "loop_lag": Histogram((0.01, 0.1)),
        "records_failing": False,
        "guard_alive": True,
        "log_lines_dropped": 0,
        **more,
    }
    return View(**values)  # type: ignore[arg-type]
