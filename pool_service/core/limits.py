"""What holds for the pool as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pool_service.core.types import FOREVER


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds for the pool as a whole.

    max_starts: how many servers may be starting at a time; failure_ttl: for how
    many seconds a FAILED server is remembered; port_attempts: how many processes
    one start may cost where others take the port that was chosen for it.

    A server that died is started again after backoff_initial seconds, doubled with each death, at
    most backoff_max; at once where it had served and this was the first. After crash_limit deaths
    within crash_window seconds it is left FAILED for backoff_max. A run that was READY for
    stable_run seconds forgets the deaths before it. failure_memory: for how many seconds a refused
    start is answered from memory.

    Each READY server is looked at every probe_interval seconds; probe_limit looks in
    a row without an answer and without progress mean that it is wedged, and as many that say
    that it is unhealthy while it has nothing to do that it is sick. endpoint_interval: seconds
    between rounds in which the system is asked whether READY servers still listen.

    memory_budget: bytes that all servers together may need (FOREVER: no limit);
    memory_reserve: bytes that are to stay available to others. At most queue_limit models
    wait for their turn, each for queue_timeout seconds. groups: how many servers of each
    group there may be at a time. sample_interval: seconds between looks at the memory
    while nothing is about to start. standby: how many processes wait to become servers.
    """

    max_starts: int = 8
    failure_ttl: float = 600.0
    port_attempts: int = 5
    backoff_initial: float = 0.5
    backoff_max: float = 30.0
    crash_limit: int = 5
    crash_window: float = 300.0
    stable_run: float = 60.0
    failure_memory: float = 2.0
    probe_interval: float = 15.0
    probe_limit: int = 4
    endpoint_interval: float = 1.0
    memory_budget: float = FOREVER
    memory_reserve: int = 0
    queue_limit: int = 64
    queue_timeout: float = 300.0
    sample_interval: float = 10.0
    standby: int = 0
    groups: Mapping[str, int] = field(default_factory=dict)
