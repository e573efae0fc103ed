"""Every key of the configuration. The descriptions are what the documentation is made of."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field

from pool_service.config.durations import KeepAlive, PositiveSeconds, Seconds
from pool_service.config.sizes import Budget, LogBytes, MemoryBytes, Reserve
from pool_service.config.types import (
    Addresses,
    Aliases,
    Arguments,
    Count,
    DefaultText,
    Directories,
    Directory,
    FewCount,
    Format,
    GroupNames,
    HistoryLength,
    Level,
    RuntimeModel,
    RuntimeReference,
    Section,
    Switch,
    Variables,
)
from pool_service.core.limits import Limits
from pool_service.core.types import Settings

APP_NAME = "pool-service"

_LIMITS = Limits()
_SETTINGS = Settings(runtime_model="")
_OF_SETTINGS = frozenset(field.name for field in fields(Settings))


def _state_dir() -> Path:
    try:
        return platformdirs.user_state_path(APP_NAME)
    except RuntimeError:
        # No home directory is known: said with the key, and only where it is not set.
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
        description="Where to listen: host:port (port 0: any free one) or unix:PATH. Whoever "
        "reaches an address can start and stop servers, so leave it on loopback or in a "
        "directory of your own.",
    )
    state_dir: Annotated[
        Directory,
        DefaultText(
            "`~/.local/state/pool-service`; on macOS `~/Library/Application Support/pool-service`"
        ),
    ] = Field(
        default_factory=_state_dir,
        validate_default=True,
        description="Where logs and the servers' working directories are kept; of one service "
        "at a time.",
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
        "without a home directory it is that of the machine, as `/usr/local/share`.",
    )
    trusted_directories: Directories = Field(
        default=(),
        description="Directories whose files count as yours although users other than you and "
        "root can write there. Models, and programs of runtimes, that other users could change are "
        "refused elsewhere; whoever can write here decides what your servers load and run.",
    )
    only_listed: Switch = Field(
        default=False,
        description="Serve only models that have a section of their own here; any other is "
        "refused as MODEL_UNKNOWN.",
    )
    max_starts: Count = Field(
        default=_LIMITS.max_starts,
        description="How many servers may be starting at a time; further ones wait their turn.",
    )
    failure_ttl: Seconds = Field(
        default=_LIMITS.failure_ttl, description="How long a server that failed is still listed."
    )
    port_attempts: Count = Field(
        default=_LIMITS.port_attempts,
        description="How many processes one start may use up if other programs take the port "
        "that was chosen for it.",
    )
    backoff_initial: Seconds = Field(
        default=_LIMITS.backoff_initial,
        description="The delay before a server that died is started again for those who wait. "
        "It doubles with each further death. A server that had served is started again at once "
        "the first time.",
    )
    backoff_max: Seconds = Field(
        default=_LIMITS.backoff_max,
        description="The longest such delay, and how long a model that died too often is not "
        "started.",
    )
    crash_limit: Count = Field(
        default=_LIMITS.crash_limit,
        description="How many deaths within crash_window are a crash loop.",
    )
    crash_window: Seconds = Field(
        default=_LIMITS.crash_window,
        description="The time within which deaths count for crash_limit.",
    )
    stable_run: Seconds = Field(
        default=_LIMITS.stable_run,
        description="How long a server must be READY for its earlier deaths to be forgotten.",
    )
    failure_memory: Seconds = Field(
        default=_LIMITS.failure_memory,
        description="How long the answer to a refused start is repeated without another try.",
    )
    probe_interval: PositiveSeconds = Field(
        default=_LIMITS.probe_interval,
        description="The time between two liveness probes of a READY server. If all servers "
        "together would need more than three probes a second, those that answer are probed less "
        "often.",
    )
    probe_limit: Count = Field(
        default=_LIMITS.probe_limit,
        description="How many liveness probes in a row may fail before a server is replaced. A "
        "probe fails if the server neither answers nor makes progress (with no requests in "
        "flight: does no work), or if it says that it is unhealthy while it works on nothing.",
    )
    standby: FewCount = Field(
        default=1,
        description="How many processes of vllm-mlx, at most 64, wait with all that it imports, so "
        "that a start takes little more than loading the model. Each is counted as 160 MiB of the "
        "memory budget, and is given up where a model needs that. 0: each start runs the plain "
        "command.",
    )
    keep_servers: Switch = Field(
        default=False,
        description="Leave the servers running when the service is stopped, for the next one.",
    )
    replace: Switch = Field(
        default=False,
        description="Take over from the service that uses the state directory, if one does; it "
        "leaves its servers.",
    )
    recovery_timeout: Seconds = Field(
        default=3.0,
        description="How long calls wait, when the service starts, until it knows the servers "
        "of an earlier service.",
    )
    orphan_grace: Seconds = Field(
        default=60.0,
        description="How long after the end of the service its guard waits for another one before "
        "it stops the servers; 0: no guard.",
    )
    history: HistoryLength = Field(
        default=4096,
        description="How many changes are kept, for a Watch that resumes after a revision.",
    )
    log_format: Format = Field(
        default="text",
        description="How the service's own log lines on stderr look: for people or JSON.",
    )
    log_level: Level = Field(default="info", description="The least severe lines that are logged.")


class MemorySection(Section):
    """How much memory the servers may have, and who waits for it."""

    budget: Annotated[
        Budget,
        DefaultText("three quarters of the machine's memory; on macOS the recommended working set"),
    ] = Field(
        default=None,
        description="How much all servers together may need: bytes, a share of the machine's "
        "memory, or none for no limit.",
    )
    reserve: Annotated[Reserve, DefaultText("5 % of the machine's memory, at most 2 GiB")] = Field(
        default=None,
        description="How much of the machine's memory must stay available to others: nothing is "
        "started into it, whatever the budget.",
    )
    queue_limit: Count = Field(
        default=_LIMITS.queue_limit,
        description="How many models may wait for their turn; one more is refused as QUEUE_FULL.",
    )
    queue_timeout: PositiveSeconds = Field(
        default=_LIMITS.queue_timeout,
        description="How long a model waits for its turn; after that it is refused as POOL_FULL.",
    )
    sample_interval: PositiveSeconds = Field(
        default=_LIMITS.sample_interval,
        description="The time between two memory samples while nothing is about to start.",
    )


class LogsSection(Section):
    """What servers write, kept under the state directory."""

    max_bytes: LogBytes = Field(
        default=16 * 1024 * 1024,
        description="How large a log may grow before it is cut to its newer half. What was cut "
        "is a hole at its start that takes no room; read it with tail.",
    )
    keep: Count = Field(
        default=5,
        description="How many generations of each model keep their log; of no more than the 200 "
        "models that ran last.",
    )


class DefaultsSection(Section):
    """How models are run where their own section is silent."""

    keep_alive: KeepAlive = Field(
        default=_SETTINGS.keep_alive,
        description="How long an unused server stays; 0: it goes as soon as it is unused; "
        "negative or forever: until it is evicted. A caller can ask for another.",
    )
    grace_period: Seconds = Field(
        default=_SETTINGS.grace_period,
        description="How long a server stays after each Ensure whatever its keep alive, so that "
        "the caller's first request finds it.",
    )
    start_timeout: PositiveSeconds = Field(
        default=_SETTINGS.start_timeout,
        description="How long a process may take from its start until it is ready. What the "
        "pool downloads before is not part of it; what the runtime downloads itself is.",
    )
    probe_timeout: PositiveSeconds = Field(
        default=_SETTINGS.probe_timeout,
        description="How long one request to the health path may take; less than start_timeout.",
    )
    drain_timeout: Seconds = Field(
        default=_SETTINGS.drain_timeout,
        description="How long requests in flight may go on when a server is to stop.",
    )
    stop_timeout: PositiveSeconds = Field(
        default=_SETTINGS.stop_timeout,
        description="How long each further step of a stop (SIGINT, then SIGKILL) waits for the "
        "one before.",
    )

    runtime: Annotated[RuntimeReference, DefaultText("the one of `[runtime]`")] = Field(
        default=_SETTINGS.runtime,
        description="Which runtime serves it: the NAME of a [runtimes.NAME] section, or default.",
    )
    arguments: Arguments = Field(
        default=_SETTINGS.arguments,
        description="Further arguments for the runtime, after its command; options by their "
        "full names. A model's own replace these.",
    )
    environment: Variables = Field(
        default=_SETTINGS.environment,
        description="Variables for its process, laid over those of the runtime. A model's own "
        "are laid over these.",
    )
    memory_limit: Annotated[MemoryBytes, DefaultText("none")] = Field(
        default=_SETTINGS.memory_limit,
        description="The memory past which its server is replaced by a new one, between requests.",
    )
    groups: GroupNames = Field(
        default=_SETTINGS.groups,
        description="The groups that it belongs to, each a [groups.NAME] section. A model's own "
        "replace these.",
    )
    trust_remote_code: Switch = Field(
        default=_SETTINGS.trust_remote_code,
        description="Load it although it brings code of its own, which then runs as you; else it "
        "is refused as CODE_NOT_TRUSTED.",
    )
    download: Switch = Field(
        default=_SETTINGS.download,
        description="Let an Ensure download what is missing of its files; else it is refused as "
        "MODEL_NOT_ON_DISK. A caller can ask for it too.",
    )

    def over(self, settings: Settings) -> Settings:
        """The settings, with what is set here in place of theirs; variables are added."""
        said = {key: getattr(self, key) for key in self.model_fields_set & _OF_SETTINGS}
        said["environment"] = tuple(
            sorted((dict(settings.environment) | dict(self.environment)).items())
        )
        return replace(settings, **said)


class ModelSection(DefaultsSection):
    """One model. What is not set here is as in [defaults]."""

    def named_over(self, name: str, settings: Settings) -> Settings:
        """Return `over`, with the section in which the arguments stand; name: of the model."""
        section = f"[models.{json.dumps(name, ensure_ascii=False)}]"
        said = "arguments" in self.model_fields_set
        mine = self.over(settings)
        return replace(mine, arguments_section=section) if said else mine

    runtime_model: Annotated[
        RuntimeModel, DefaultText("the model's name without a leading `vllm-mlx/`")
    ] = Field(
        default=_SETTINGS.runtime_model,
        description="What the runtime is asked to load for it: a Hugging Face id or a local "
        "directory.",
    )
    aliases: Aliases = Field(
        default=(),
        description="Other names by which callers can ask for it.",
    )
    pinned: Switch = Field(
        default=_SETTINGS.pinned,
        description="Once started it stays: neither unused time nor the room of others ends it, "
        "only an eviction.",
    )
    preload: Switch = Field(
        default=_SETTINGS.preload, description="Start it with the service, before it is asked for."
    )
    expected_memory: Annotated[
        MemoryBytes, DefaultText("what earlier runs needed, else told by its weights")
    ] = Field(
        default=_SETTINGS.expected_memory,
        description="How much memory its server will need at most; where earlier runs needed more, "
        "that counts.",
    )


class GroupSection(Section):
    """Models of which only so many may run at a time."""

    limit: Count = Field(
        default=1, description="How many servers of the group there may be at a time."
    )
