"""All other keys of the configuration; their descriptions become the documentation."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field

from pool_service.config.durations import (
    KeepAlive,
    PositiveOrForever,
    PositiveSeconds,
    Seconds,
)
from pool_service.config.sizes import (
    Budget,
    DiskBytes,
    LogBytes,
    MemoryBytes,
    PromptCacheBytes,
    Reserve,
)
from pool_service.config.types import (
    Addresses,
    Aliases,
    Arguments,
    Count,
    DefaultText,
    Directories,
    Directory,
    Format,
    GroupNames,
    HistoryLength,
    Level,
    ModelReference,
    RuntimeModel,
    RuntimeReference,
    Section,
    StandbyCount,
    Switch,
    Variables,
    WarmPrompts,
)
from pool_service.core.limits import Limits
from pool_service.core.types import Settings

APP_NAME = "pool-service"

_LIMITS = Limits()
_SETTINGS = Settings(runtime_model="")
_SETTINGS_KEYS = frozenset(field.name for field in fields(Settings))


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
        description="Where to listen: host:port (port 0: any free one) or unix:PATH. Anybody who "
        "can reach an address can start and stop servers, so keep it on loopback or in a "
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
        description="The model that comes back, without a call, after the others have been unused "
        "for a minute: started with the service, it stays however long it is unused, and makes "
        "room for other models when they are asked for. An eviction keeps it away until somebody "
        "asks for it again.",
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
        "together would need more than three probes a second, those that answer are probed less "
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
        description="How many standbys to keep at most after that many models started together, as "
        "far as memory is left; after ten quiet minutes it is `standby` again.",
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


class MemorySection(Section):
    """How much memory the servers may use, and how models wait for it."""

    budget: Annotated[
        Budget,
        DefaultText("three quarters of the machine's memory; on macOS the recommended working set"),
    ] = Field(
        default=None,
        description="How much memory all servers together may need: bytes, a share of the "
        "machine's memory, or none for no limit.",
    )
    reserve: Annotated[Reserve, DefaultText("5 % of the machine's memory, at most 2 GiB")] = Field(
        default=None,
        description="How much of the machine's memory must stay available to other programs: no "
        "server is started into it, whatever the budget.",
    )
    queue_limit: Count = Field(
        default=_LIMITS.queue_limit,
        description="How many models may wait in the queue; one more is refused as QUEUE_FULL.",
    )
    queue_timeout: PositiveSeconds = Field(
        default=_LIMITS.queue_timeout,
        description="How long a model may wait in the queue before it is refused as POOL_FULL.",
    )
    sample_interval: PositiveSeconds = Field(
        default=_LIMITS.sample_interval,
        description="The time between two memory samples while nothing is about to start.",
    )


class LogsSection(Section):
    """The logs of the servers, kept under the state directory."""

    max_bytes: LogBytes = Field(
        default=16 * 1024 * 1024,
        description="How large a log may grow before it is cut to its newer half. The part that "
        "was cut becomes a hole that takes no disk space; read the log with tail.",
    )
    keep: Count = Field(
        default=5,
        description="How many logs of each model are kept, one for each generation. Only the 200 "
        "models that ran last keep logs.",
    )


class DefaultsSection(Section):
    """The settings of models, unless their own section has others."""

    keep_alive: KeepAlive = Field(
        default=_SETTINGS.keep_alive,
        description="How long an unused server stays; 0: it stops as soon as it is unused; "
        "negative or forever: it stays until you evict it. A caller can ask for another duration.",
    )
    grace_period: Seconds = Field(
        default=_SETTINGS.grace_period,
        description="How long a server stays at least after each Ensure, so that the caller's "
        "first request finds it.",
    )
    start_timeout: PositiveOrForever = Field(
        default=_SETTINGS.start_timeout,
        description="How long a process may take at most from its start until it is ready, however "
        "well it gets on; forever: as long as it makes progress (see stall_timeout). A download by "
        "the pool comes before that; a download by the runtime itself counts.",
    )
    stall_timeout: PositiveSeconds = Field(
        default=_SETTINGS.stall_timeout,
        description="How long a starting process may stand still before it is ended: it reads and "
        "writes nothing, takes no memory, and uses a processor for less than a twentieth of this "
        "time. Processor time alone counts as progress for ten minutes at most.",
    )
    probe_timeout: PositiveSeconds = Field(
        default=_SETTINGS.probe_timeout,
        description="How long one request to the health path may take; less than start_timeout.",
    )
    drain_timeout: Seconds = Field(
        default=_SETTINGS.drain_timeout,
        description="How long requests in flight may go on when their server is to stop.",
    )
    stop_timeout: PositiveSeconds = Field(
        default=_SETTINGS.stop_timeout,
        description="How long the pool waits, after each signal, before it sends the next harder "
        "one: SIGINT, then SIGKILL.",
    )

    runtime: Annotated[RuntimeReference, DefaultText("the one of `[runtime]`")] = Field(
        default=_SETTINGS.runtime,
        description="The runtime that serves the model: the NAME of a [runtimes.NAME] section, or "
        "default.",
    )
    arguments: Arguments = Field(
        default=_SETTINGS.arguments,
        description="Arguments that follow the runtime's command; options by their full names. "
        "Those of a model's own section replace these.",
    )
    environment: Variables = Field(
        default=_SETTINGS.environment,
        description="Variables for the process, which override those of the runtime. Those of a "
        "model's own section override these.",
    )
    memory_limit: Annotated[MemoryBytes, DefaultText("none")] = Field(
        default=_SETTINGS.memory_limit,
        description="The memory above which a server is replaced by a new one, between requests.",
    )
    groups: GroupNames = Field(
        default=_SETTINGS.groups,
        description="The groups of the model, each a [groups.NAME] section. Those of a model's own "
        "section replace these.",
    )
    prompt_cache: PromptCacheBytes = Field(
        default=_SETTINGS.prompt_cache,
        description="How much disk space the computed prompts of a model may take, from one "
        "of its servers to the next, and how much of a server's memory; false: nothing is kept. "
        "Kept prompts make the first answers after a start quick; they hold what prompts were "
        "about, and only you can read them. vllm-mlx serves with --continuous-batching then.",
    )
    trust_remote_code: Switch = Field(
        default=_SETTINGS.trust_remote_code,
        description="Load the model although it brings code of its own, which then runs as you; "
        "otherwise it is refused as CODE_NOT_TRUSTED.",
    )
    download: Switch = Field(
        default=_SETTINGS.download,
        description="Let an Ensure download the model's missing files; otherwise it is refused as "
        "MODEL_NOT_ON_DISK. A caller can ask for the download, too.",
    )

    def over(self, settings: Settings) -> Settings:
        """Return `settings` with the values that are set here; variables are merged."""
        values = {key: getattr(self, key) for key in self.model_fields_set & _SETTINGS_KEYS}
        values["environment"] = tuple(
            sorted((dict(settings.environment) | dict(self.environment)).items())
        )
        return replace(settings, **values)


class ModelSection(DefaultsSection):
    """One model. A key that is not set here is as in [defaults]."""

    def over_with_origin(self, name: str, settings: Settings) -> Settings:
        """Return `over(settings)`; `arguments_section` is this section if it sets the arguments.

        Errors about arguments say by it which section to correct. name: the model's.
        """
        section = f"[models.{json.dumps(name, ensure_ascii=False)}]"
        has_arguments = "arguments" in self.model_fields_set
        merged = self.over(settings)
        return replace(merged, arguments_section=section) if has_arguments else merged

    runtime_model: Annotated[
        RuntimeModel, DefaultText("the model's name without a leading `vllm-mlx/`")
    ] = Field(
        default=_SETTINGS.runtime_model,
        description="The model that the runtime loads: a Hugging Face id or a local directory.",
    )
    warm_prompts: WarmPrompts = Field(
        default=_SETTINGS.warm_prompts,
        description="System prompts that each server computes before it is READY, at most 8, with "
        "256 KiB together, so that the first conversation that begins with one is answered "
        "quickly. Prompts that are kept (prompt_cache) take no time. They are not in `ps`.",
    )
    aliases: Aliases = Field(
        default=(),
        description="Other names by which callers can ask for the model.",
    )
    pinned: Switch = Field(
        default=_SETTINGS.pinned,
        description="Once started, keep the server until you evict it: neither idleness nor other "
        "models' need for memory stops it.",
    )
    preload: Switch = Field(
        default=_SETTINGS.preload, description="Start the server together with the service."
    )
    expected_memory: Annotated[
        MemoryBytes, DefaultText("what earlier runs needed, else estimated from its weights")
    ] = Field(
        default=_SETTINGS.expected_memory,
        description="How much memory the server needs at most. If earlier runs needed more, the "
        "pool counts with that.",
    )


class GroupSection(Section):
    """A group of models, of which only so many may run at a time."""

    limit: Count = Field(default=1, description="How many servers of the group may run at a time.")
