"""The errors for callers, built from what happened to the server that they asked for."""

from dataclasses import replace

from pool_service.core.blame import blamed_argument, blamed_of_runtime
from pool_service.core.errors import (
    CrashLoop,
    ModelNotOnDisk,
    ModelRejected,
    ModelTooLarge,
    ModelUnknown,
    PoolError,
    PoolFull,
    QueueFull,
    QuotaExceeded,
    RuntimeModelConflict,
    RuntimeUnavailable,
    StartFailed,
    StartTimeout,
)
from pool_service.core.limits import Limits
from pool_service.core.liveness import WORKING_SHARE
from pool_service.core.names import did_you_mean
from pool_service.core.server import Server
from pool_service.core.stall import StallWatch
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Settings
from pool_service.core.units import size

RETRY_WHEN_FULL_S = 5.0
"""The time after which a caller should try again if the pool is full: about that of a load."""

QUOTA_RETRY_S = 60.0
"""The time after which a caller should try again that may never have what it asks for: the operator
may raise its limit."""


def crash_loop(server: Server, limits: Limits) -> CrashLoop:
    """Return the error for callers of a server in a crash loop."""
    end = server.last_exit
    return CrashLoop(
        f"the server of {server.model!r} died {len(server.crashes)} times within "
        f"{limits.crash_window:g} s, so it is left alone for {limits.backoff_max:g} s after the "
        f"last. Its log is {server.log_path}; mend the cause, or evict the model to try at once.",
        model=server.model,
        retry_after=limits.backoff_max,
        last_lines=end.report.last_lines if end else (),
    )


def start_failure(server: Server, report: ExitReport) -> PoolError:
    """Return the error for waiters of a server that died while it was starting."""
    name = f"{server.model!r}"
    what = report.message.rstrip(".")
    refused = report.diagnosis in (Diagnosis.MODEL_REJECTED, Diagnosis.RUNTIME_UNUSABLE)
    argument = blamed_argument(what, server.settings) if refused else None
    if argument is not None:
        return RuntimeUnavailable(
            f"{name} cannot be started with its argument {argument}: {what}. Correct "
            f"{server.settings.arguments_section} arguments in the configuration, and reload.",
            model=server.model,
        )
    if report.diagnosis is Diagnosis.MODEL_REJECTED:
        of_runtime = blamed_of_runtime(what, server)
        if of_runtime is not None:
            return RuntimeUnavailable(
                f"{name} cannot be started with the argument {of_runtime} of its runtime: {what}. "
                f"Correct {runtime_section(server.settings)} command in the configuration, and "
                "reload.",
                model=server.model,
            )
        return ModelRejected(
            f"the runtime refused {name}: {what}. Name a model that it supports, or "
            "mend the files of this one.",
            model=server.model,
            last_lines=report.last_lines,
        )
    if report.diagnosis is Diagnosis.RUNTIME_UNUSABLE:
        return RuntimeUnavailable(
            f"{name} cannot be started: the runtime is not usable as configured: "
            f"{what}. Correct {runtime_section(server.settings)} in the configuration.",
            model=server.model,
        )
    return StartFailed(
        f"the server of {name} died before it was ready: {what}. Its log is "
        f"{server.log_path}; the next Ensure tries again.",
        model=server.model,
        last_lines=report.last_lines,
    )


def bound_elsewhere(server: Server, endpoint: str) -> RuntimeUnavailable:
    """Return the error for waiters of a server that does not listen at the advertised address."""
    host = server.plan.host if server.plan else ""
    return RuntimeUnavailable(
        f"{server.model!r} cannot be started: its server listens at {endpoint}, and not at {host}, "
        f"the address of fleet.advertise. Correct {runtime_section(server.settings)} command in "
        "the configuration, so that it tells the program to listen at {host}, and reload.",
        model=server.model,
    )


def start_timeout(server: Server) -> StartTimeout:
    """Return the error for waiters of a server that was not ready within its start timeout."""
    seconds = server.settings.start_timeout
    # FOREVER: the configuration limits it no longer.
    limit = "its start limit" if seconds == FOREVER else f"its start limit of {seconds:g} s"
    return StartTimeout(
        f"the server of {server.model!r} was not ready within {limit} and is stopped. Its log is "
        f"{server.log_path}; try again, or raise start_timeout for this model.",
        model=server.model,
    )


def stall_reason(watch: StallWatch, now: float) -> str:
    """Return in words for how long a start made no progress, and how far it had come."""
    work, footprint = watch.last_work, watch.last_footprint
    still, empty = now - watch.moved_at, now - watch.loaded_at
    taken = "" if footprint is None else f"; it took {size(footprint)} of memory"
    if work is None:
        return f"it took no more memory for {empty:.0f} s, and its work could not be read{taken}"
    computes = work.processor_s - watch.work.processor_s > WORKING_SHARE * still
    what = (
        f"computed for {empty:.0f} s without reading anything or taking memory"
        if computes
        else f"stood still for {still:.0f} s while it started"
    )
    return (
        f"it {what}; it had read {size(work.read)} and used {work.processor_s:.0f} s of processor "
        f"time{taken}"
    )


def start_stalled(server: Server, why: str) -> StartTimeout:
    """Return the error for waiters of a server whose start made no progress; why: in words."""
    return StartTimeout(
        f"the server of {server.model!r} is stopped before it was ready: {why}. Its log is "
        f"{server.log_path}; its last lines may say what it waited for. Try again, or raise "
        "stall_timeout for this model if such a pause is usual.",
        model=server.model,
    )


def runtime_model_conflict(model: str, running: str, asked: str) -> RuntimeModelConflict:
    """Return the error for a caller that names another runtime model than the one that runs."""
    return RuntimeModelConflict(
        f"{model!r} runs as {running!r}, not as {asked!r}. Ensure it without a runtime model to "
        "use the one that runs, or evict it first.",
        model=model,
        running=running,
        asked=asked,
    )


def model_unknown(model: str, meant: tuple[str, ...] = ()) -> ModelUnknown:
    """Return the error for a model that is not listed, with only_listed set; meant: suggestions."""
    return ModelUnknown(
        f"{model!r} is not in the catalogue, and only_listed is set, so it is not served."
        f"{did_you_mean(meant)} Name a model that 'pool-service models' lists, or add it to the "
        "configuration.",
        model=model,
    )


def runtime_model_unlisted(model: str, runtime_model: str) -> ModelUnknown:
    """Return the error for a runtime model that is not listed, with only_listed set."""
    return ModelUnknown(
        f"{model!r} is not in the catalogue as {runtime_model!r}, and only_listed is set, so it is "
        "not served as that. Ask for it without a runtime model, or add a model of its own for "
        "that to the configuration.",
        model=model,
    )


def name_taken(model: str, other: str) -> ModelUnknown:
    """Return the error for callers of a model whose name has become an alias of another."""
    return ModelUnknown(
        f"the configuration has changed, and {model!r} is now a name of {other!r}. Ask again to "
        "get that.",
        model=model,
    )


def not_on_disk(model: str, runtime_model: str, meant: tuple[str, ...] = ()) -> ModelNotOnDisk:
    """Return the error for a model whose files are not on disk, without leave to download them.

    meant: suggestions that could be started.
    """
    run = "Else run" if meant else "Run"
    # The hub has few models whose name has no organisation.
    unsure = "" if "/" in runtime_model else " if the model hub has it by that name"
    named = "" if "/" in runtime_model else ", name its directory as the runtime model"
    return ModelNotOnDisk(
        f"{model!r} cannot be started: the files of {runtime_model!r} are not on this machine."
        f"{did_you_mean(meant)} {run} 'pool-service pull {model}'{unsure}{named}, or allow the "
        "download with this call.",
        model=model,
    )


def too_large(server: Server, budget: float) -> ModelTooLarge:
    """Return the error for a model that needs more than the memory budget."""
    return ModelTooLarge(
        f"{server.model!r} is expected to need {size(server.expected)} "
        f"({server.expected_by.value}), and the budget for all models is {size(budget)}. "
        "Raise [memory] budget, name a smaller model, or correct its expected_memory.",
        model=server.model,
        needed=server.expected,
        budget=int(budget),
    )


def share_exceeded(server: Server, most: int) -> QuotaExceeded:
    """Return the error for a model that needs more than its callers may take up; most: bytes."""
    return QuotaExceeded(
        f"{server.model!r} is expected to need {size(server.expected)} "
        f"({server.expected_by.value}), and your share of the memory is {size(most)}. Have "
        "memory_share raised, name a smaller model, or correct its expected_memory.",
        model=server.model,
        limit="memory_share",
        most=most,
        retry_after=QUOTA_RETRY_S,
    )


def pool_full(server: Server, limits: Limits) -> PoolFull:
    """Return the error for waiters of a model that did not fit within the queue timeout."""
    what = server.detail or "waits for its turn"
    return PoolFull(
        f"there was no room for {server.model!r} within {limits.queue_timeout:g} s: it "
        f"{what}. Try again, evict or release what is not needed, or raise [memory] budget.",
        model=server.model,
        subject="memory",
        retry_after=RETRY_WHEN_FULL_S,
    )


def queue_full(model: str, limits: Limits) -> QueueFull:
    """Return the error for callers that find the queue full."""
    return QueueFull(
        f"{limits.queue_limit} models wait for their turn already, so {model!r} cannot join them. "
        "Try again in a while.",
        model=model,
        retry_after=RETRY_WHEN_FULL_S,
    )


def still_barred(failure: PoolError, retry_at: float, now: float) -> PoolError:
    """Return a remembered error, with the rest of its time to retry."""
    if isinstance(failure, CrashLoop):
        return replace(failure, retry_after=max(retry_at - now, 0.0))
    return failure


def runtime_section(settings: Settings) -> str:
    """Return the section of the configuration that describes the runtime of `settings`."""
    return f"[runtimes.{settings.runtime}]" if settings.runtime else "[runtime]"
