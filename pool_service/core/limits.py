"""The limits of the pool, as configured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pool_service.core.types import FOREVER


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that hold for the pool as a whole. Durations in seconds, sizes in bytes.

    max_starts: servers that may be starting at a time.
    failure_ttl: how long a FAILED server is shown.
    port_attempts: processes that one start may take if other programs take its port.

    backoff_initial: the backoff after a first crash, doubled with each further one. There is none
    after the first crash of a server that was READY, so its first one comes after the second
    crash, doubled.
    backoff_max: the longest backoff, and how long a crash loop bars further starts.
    crash_limit, crash_window: so many crashes within the window are a crash loop.
    stable_run: a server that was READY for so long clears the crashes before.
    failure_memory: how long the error of a failed start is given to further callers.

    probe_interval: between liveness probes of a READY server.
    probe_limit: failed probes in a row after which a server is wedged or unhealthy.
    endpoint_interval: between checks whether READY servers still listen.

    memory_budget: what all servers together may need; FOREVER: no limit.
    memory_reserve: memory of the machine that servers leave available.
    queue_limit: models that may be queued.
    queue_timeout: how long a model may be queued.
    sample_interval: between memory samples while nothing starts.
    standby: standby processes to keep at least.
    standby_max: at most, after that many models started together.
    groups: servers of each group that there may be at a time.
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
    standby_max: int = 8
    groups: Mapping[str, int] = field(default_factory=dict)
