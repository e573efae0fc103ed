"""The families of metrics that the service writes: names, types, labels and what they mean.

`docs/reference/metrics.md` has the same table.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The types of families in Prometheus's text format."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"
    SUMMARY = "summary"


@dataclass(frozen=True, slots=True)
class Family:
    """One family of metrics; its name is without the prefix."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name with the prefix of the service."""
        return f"pool_service_{self.name}"


def gauge(name: str, help_text: str, *labels: str) -> Family:
    """Return a family of gauges."""
    return Family(name, Kind.GAUGE, help_text, labels)


def counter(name: str, help_text: str, *labels: str) -> Family:
    """Return a family of counters."""
    return Family(name, Kind.COUNTER, help_text, labels)


def histogram(name: str, help_text: str, *labels: str) -> Family:
    """Return a family of histograms."""
    return Family(name, Kind.HISTOGRAM, help_text, labels)


BUILD_INFO = gauge("build_info", "Always 1; says which version runs.", "version", "python")
START_TIME = gauge("start_time_seconds", "When the service started, as a Unix time.")

SERVER_STATE = gauge("server_state", "The servers of the model in the state.", "model", "state")
SERVER_EXPECTED = gauge(
    "server_expected_bytes", "The memory that the model is expected to need at most.", "model"
)
SERVER_FOOTPRINT = gauge(
    "server_footprint_bytes", "The memory of the model's processes in the last sample.", "model"
)
SERVER_HOLDS = gauge("server_holds", "The callers that hold the model.", "model")
SERVER_WAITING = gauge(
    "server_waiting_calls", "The calls that wait for the model to be READY.", "model"
)
SERVER_GENERATION = gauge(
    "server_generation",
    "The newest generation of the model; it rises with each start.",
    "model",
)
SERVER_PINNED = gauge("server_pinned", "1 if the server is pinned, else 0.", "model")
SERVER_LAST_USE = gauge(
    "server_last_use_timestamp_seconds", "When the model was last used, as a Unix time.", "model"
)

STARTS = counter(
    "starts_total",
    "Starts that have ended, by where the process came from and how they ended.",
    "model",
    "origin",
    "result",
)
START_SECONDS = Family(
    "server_start_seconds",
    Kind.SUMMARY,
    "The time of the model's successful starts, from the admission until READY.",
    ("model",),
)
START_DURATION = histogram(
    "start_duration_seconds",
    "The time of successful starts, from the admission until READY.",
    "origin",
)
QUEUE_WAIT = histogram(
    "queue_wait_seconds",
    "The time for which starts waited in the queue, admitted in the end or not.",
)
EXITS = counter("exits_total", "Processes of servers that have ended.", "model", "cause")
KILLS = counter(
    "exits_killed_total", "Processes that did not end in time and were ended by SIGKILL.", "model"
)
STOP_DURATION = histogram(
    "drain_duration_seconds",
    "The time from the decision to stop a server until its process had ended, drain included.",
)

RPCS = counter("rpcs_total", "Calls that have ended, by method and status.", "method", "code")
RPC_DURATION = histogram(
    "rpc_duration_seconds", "The time of calls with one response, in the service.", "method"
)
STREAMS = gauge("streams", "The open streams.", "method")

MEMORY_BUDGET = gauge(
    "memory_budget_bytes", "The memory that all servers together may need; +Inf: no limit."
)
MEMORY_RESERVED = gauge("memory_reserved_bytes", "The part of the budget that is taken.")
MEMORY_AVAILABLE = gauge(
    "memory_available_bytes",
    "The memory that the machine has available; absent without a recent sample.",
)
MEMORY_TOTAL = gauge(
    "memory_total_bytes",
    "The memory of the machine, or of the container; absent before the first sample.",
)
MEMORY_PRESSURED = gauge(
    "memory_pressured",
    "1 if the machine is short of memory, else 0; absent without a recent sample.",
)
STANDBYS = gauge("standbys", "The standbys that are ready to become servers.")
QUEUED_MODELS = gauge("queued_models", "The models that wait in the queue.")
RECORDS_FAILING = gauge("records_failing", "1 if changes are not written to disk, else 0.")
GUARD_ALIVE = gauge("guard_alive", "1 if the guard runs, else 0; absent without a guard.")
LOOP_LAG = histogram(
    "event_loop_lag_seconds", "By how much a timer of the event loop was late, each second."
)
LOG_LINES_DROPPED = counter(
    "log_lines_dropped_total", "Lines of the service's own log that nobody read in time."
)

FAMILIES = tuple(value for value in dict(globals()).values() if isinstance(value, Family))
"""All families, in the order in which they are described here."""
