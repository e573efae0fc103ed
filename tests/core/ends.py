"""A server whose process has ended, for claims about restarts and the errors that follow."""

from dataclasses import replace

from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Exit, Phase, Server
from pool_service.core.types import Diagnosis, ExitReport, Settings

LIMITS = Limits(
    backoff_initial=1.0, backoff_max=30.0, crash_limit=3, crash_window=100.0, stable_run=60.0
)
SERVER = Server("m", Settings(runtime_model="org/m"), Phase.READY, 4, 0.0, 0.0, 300.0)


def ended(
    cause: Cause = Cause.CRASHED,
    diagnosis: Diagnosis = Diagnosis.CRASHED,
    code: int | None = 1,
    generation: int = 4,
) -> Server:
    report = ExitReport(code, None, diagnosis, "it died", ("last",))
    return replace(SERVER, last_exit=Exit(generation, cause, report, 5.0), log_path="/logs/m/4")
