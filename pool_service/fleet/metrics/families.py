"""The families of metrics that a front writes.

`docs/reference/metrics.md` has the same table. Their names differ from those of a service, so that
no sum over all targets counts a call or a server twice.
"""

from pool_service.metrics.families import Family, counter, gauge, histogram

BUILD_INFO = gauge(
    "fleet_build_info", "Always 1; says which version the front has.", "version", "python"
)
START_TIME = gauge("fleet_start_time_seconds", "When the front started, as a Unix time.")

LEADS = gauge("fleet_leads", "1 if this front leads, else 0.")
LEADER_KNOWN = gauge(
    "fleet_leader_known", "1 if this front leads or knows which front does, else 0."
)
MAY_PLACE = gauge(
    "fleet_may_place", "1 if this front leads and may start servers now, else 0: see its notices."
)
EPOCH = gauge("fleet_epoch", "The epoch of the leader, as far as this front knows; 0: unknown.")
LEAD_CHANGES = counter(
    "fleet_lead_changes_total", "Changes of who leads, the first leader included."
)

MEMBERS = gauge("fleet_members", "The members in the state.", "state")
MEMBER_STATE = gauge(
    "fleet_member_state", "1 if the member is in the state, else 0.", "host", "state"
)
MEMBER_REACHABLE = gauge(
    "fleet_member_reachable",
    "1 if other hosts reach the member's servers, else 0: then nothing is started there.",
    "host",
)
MEMBER_BEAT = gauge(
    "fleet_member_last_beat_timestamp_seconds",
    "When the member last answered a beat, as a Unix time; absent if it never has.",
    "host",
)
MEMBERS_LOST = counter(
    "fleet_members_lost_total", "The times that the member was silent for too long.", "host"
)

SERVERS = gauge("fleet_servers", "The servers of the member in the state.", "host", "state")
DOUBLED = gauge("fleet_doubled_models", "The models that have servers on more than one member.")

PLACINGS = counter("fleet_placings_total", "Models that were placed on the member.", "host")
MOVES = counter(
    "fleet_moves_total", "Placings of models on another member than before, by why.", "cause"
)
UNPLACED = counter(
    "fleet_unplaced_calls_total", "Calls of models that no member took, by why.", "reason"
)
COPY_EVICTIONS = counter(
    "fleet_copy_evictions_total",
    "Evictions of copies that were begun; of one in use, each second again.",
)

ENSURES = counter("fleet_ensures_total", "Ensures that have ended, by their outcome.", "outcome")
FORWARDED = counter(
    "fleet_forwarded_total", "Calls that were sent to members, by their end.", "method", "code"
)
FORWARDED_DURATION = histogram(
    "fleet_forwarded_duration_seconds", "The time of calls with one response to members.", "method"
)
FORWARDED_STREAMS = gauge("fleet_forwarded_streams", "The open streams to members.", "method")
MEMBER_CALLS = counter("fleet_member_calls_total", "Calls that were sent to the member.", "host")

RPCS = counter("fleet_rpcs_total", "Calls of the front that have ended.", "method", "code")
RPC_DURATION = histogram(
    "fleet_rpc_duration_seconds", "The time of calls with one response, in the front.", "method"
)
STREAMS = gauge("fleet_streams", "The open streams of the front's callers.", "method")

LOOP_LAG = histogram(
    "fleet_event_loop_lag_seconds", "By how much a timer of the event loop was late, each second."
)
LOG_LINES_DROPPED = counter(
    "fleet_log_lines_dropped_total", "Lines of the front's own log that nobody read in time."
)

FAMILIES = tuple(value for value in dict(globals()).values() if isinstance(value, Family))
"""All families, in the order in which they are described here."""
