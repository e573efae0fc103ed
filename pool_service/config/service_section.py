"""The keys of [service]; their descriptions become the documentation."""

from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field

from pool_service.config.durations import PositiveSeconds, Seconds
from pool_service.config.server_types import ModelReference, StandbyCount
from pool_service.config.sizes import DiskBytes
from pool_service.config.types import (
    Addresses,
    Count,
    DefaultText,
    Directories,
    Directory,
    Format,
    HistoryLength,
    Level,
    Section,
    Switch,
)
from pool_service.core.limits import Limits

APP_NAME = "pool-service"

_LIMITS = Limits()


def _state_dir() -> Path:
    try:
        return platformdirs.user_state_path(APP_NAME)
    except RuntimeError:
        # No home directory is known: the validation reports that if the key is not set.
        return Path("~")


def _data_dir() -> Path:
    try:
        return platformdirs.user_data_path(APP_NAME)
    except RuntimeError:
        return platformdirs.site_data_path(APP_NAME)


class ServiceSection(Section):
    """The service itself."""

    listen: Addresses = Field(
        default=("127.0.0.1:50051",),
        description="Where to listen: host:port (port 0: any free one) or unix:PATH. By a socket "
        "or on loopback your own programs may call without a token (`auth.local`); any other "
        "address can be reached from other machines, so there it speaks TLS (`[tls]`), and "
        "everybody needs a token or a certificate. If you set neither this nor "
        "`state_dir`, the service also listens on the socket at which clients look for it: "
        "`$XDG_RUNTIME_DIR/pool-service/socket`, or without that variable `run/socket` in the "
        "state directory.",
    )
    state_dir: Annotated[
        Directory,
        DefaultText(
            "`~/.local/state/pool-service`; on macOS `~/Library/Application Support/pool-service`"
        ),
    ] = Field(
        default_factory=_state_dir,
        validate_default=True,
        description="Where the records, logs and working directories of the servers are kept. "
        "Used by one service at a time.",
    )
    data_dir: Annotated[
        Directory,
        DefaultText(
            "`~/.local/share/pool-service`; on macOS `~/Library/Application Support/pool-service`"
        ),
    ] = Field(
        default_factory=_data_dir,
        validate_default=True,
        description="Where the runtime is installed if it is not found elsewhere. For a user "
        "without a home directory the default is in a directory of the machine, such as "
        "`/usr/local/share`.",
    )
    trusted_directories: Directories = Field(
        default=(),
        description="Directories whose files are trusted although users other than you and root "
        "can write there. Elsewhere, models and programs that other users could change are "
        "refused. Anybody who can write to these directories decides what your servers load and "
        "run.",
    )
    only_listed: Switch = Field(
        default=False,
        description="Serve only models that have a section of their own; any other is refused as "
        "MODEL_UNKNOWN.",
    )
    home_model: Annotated[ModelReference, DefaultText("none")] = Field(
        default="",
        description="The model to have when nothing else is in use. It is started without a call "
        "when the service starts, and once all other models have been unused for a minute. It is "
        "never stopped for being unused, but makes room when another model needs it. After an "
        "eviction it stays away until somebody asks for it, or the service starts again.",
    )
    max_starts: Count = Field(
        default=_LIMITS.max_starts,
        description="How many servers may start at a time; further ones wait in the queue.",
    )
    failure_ttl: Seconds = Field(
        default=_LIMITS.failure_ttl, description="How long a server that failed is still listed."
    )
    port_attempts: Count = Field(
        default=_LIMITS.port_attempts,
        description="How many processes one start may try if other programs take the port that "
        "was chosen for it.",
    )
    backoff_initial: Seconds = Field(
        default=_LIMITS.backoff_initial,
        description="The delay before a server that crashed is started again for waiting callers. "
        "It doubles with each further crash. The first restart of a server that was READY is at "
        "once, so its first delay, after the second crash, is twice this.",
    )
    backoff_max: Seconds = Field(
        default=_LIMITS.backoff_max,
        description="The longest delay before a restart, and the time without a start after a "
        "crash loop.",
    )
    crash_limit: Count = Field(
        default=_LIMITS.crash_limit,
        description="How many crashes within crash_window are a crash loop.",
    )
    crash_window: Seconds = Field(
        default=_LIMITS.crash_window,
        description="The time within which crashes count for crash_limit.",
    )
    stable_run: Seconds = Field(
        default=_LIMITS.stable_run,
        description="How long a server must be READY for its earlier crashes to be forgotten.",
    )
    failure_memory: Seconds = Field(
        default=_LIMITS.failure_memory,
        description="How long after a refused start further calls get the same error, without a "
        "new start.",
    )
    probe_interval: PositiveSeconds = Field(
        default=_LIMITS.probe_interval,
        description="The time between two liveness probes of a READY server. If all servers "
        "together would need more than two probes a second, those that answer are probed less "
        "often.",
    )
    probe_limit: Count = Field(
        default=_LIMITS.probe_limit,
        description="How many liveness probes in a row may fail before a server is replaced. A "
        "probe fails if the server neither answers nor makes progress (with no requests in "
        "flight: does no work), or if it says that it is unhealthy while it works on nothing.",
    )
    standby: StandbyCount = Field(
        default=1,
        description="How many standbys to keep, at most 64: processes that have imported vllm-mlx "
        "already, so that a start takes little more than loading the model. Each counts as 160 MiB "
        "of the memory budget, and ends when a model needs them. 0: each start runs the plain "
        "command.",
    )
    standby_max: StandbyCount = Field(
        default=_LIMITS.standby_max,
        description="The largest number of standbys. If several models start together, as many "
        "standbys are kept for the next ten minutes, as far as memory is left.",
    )
    with_gateway: Switch = Field(
        default=False,
        description="Run the gateway beside the service, and watch it: all models under one "
        "OpenAI-compatible address, http://127.0.0.1:8080/v1, for your own user. It ends with the "
        "service. Needs the extra `gateway` of the package. To choose its address or anything "
        "else of it, run `pool-service gateway` by itself.",
    )
    keep_servers: Switch = Field(
        default=False,
        description="Leave the servers running for the next service when this one is stopped.",
    )
    replace: Switch = Field(
        default=False,
        description="Replace the service that uses the state directory, if there is one, and take "
        "over its servers.",
    )
    recovery_timeout: Seconds = Field(
        default=3.0,
        description="How long the service, when it starts, may look for the servers of an earlier "
        "service before it answers calls.",
    )
    orphan_grace: Seconds = Field(
        default=60.0,
        description="How long after the end of the service its guard waits for another service "
        "before it stops the servers; 0: no guard.",
    )
    prompt_cache_total: DiskBytes = Field(
        default=10 * 1024**3,
        description="How much disk space the computed prompts of all models together may take. "
        "Those unused for longest are removed first.",
    )
    history: HistoryLength = Field(
        default=4096,
        description="How many changes are kept, for a Watch that resumes after a revision.",
    )
    log_format: Format = Field(
        default="text",
        description="The format of the service's own log lines on stderr: text for people, or "
        "json.",
    )
    log_level: Level = Field(
        default="info", description="The lowest level of the log lines that are written."
    )

    @property
    def has_default_socket(self) -> bool:
        """Whether the service has the default socket: nobody has told it to be elsewhere."""
        return self.model_fields_set.isdisjoint({"listen", "state_dir"})
