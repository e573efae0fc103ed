"""The keys of [memory], [logs], [http], [defaults], [models] and [groups], documented."""

import json
from dataclasses import fields, replace
from typing import Annotated

from pydantic import Field

from pool_service.config.durations import (
    KeepAlive,
    PositiveOrForever,
    PositiveSeconds,
    Seconds,
)
from pool_service.config.server_types import (
    Aliases,
    Arguments,
    GroupNames,
    RuntimeModel,
    RuntimeReference,
    Variables,
)
from pool_service.config.sizes import (
    Budget,
    LogBytes,
    MemoryBytes,
    PromptCacheBytes,
    Reserve,
)
from pool_service.config.types import Count, DefaultText, LocalAddress, Section, Switch
from pool_service.config.warm_prompts import WarmPrompts
from pool_service.core.limits import Limits
from pool_service.core.types import Settings

_LIMITS = Limits()
_SETTINGS = Settings(runtime_model="")
_SETTINGS_KEYS = frozenset(field.name for field in fields(Settings))


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
        description="The time between two memory samples of a server while nothing is about to "
        "start. With hundreds of servers it is longer, so that all samples together take at most a "
        "five-hundredth of a processor.",
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


class HttpSection(Section):
    """The HTTP listener, for the page and for metrics."""

    listen: Annotated[LocalAddress, DefaultText("none")] = Field(
        default="",
        description="Where to serve the page of the pool, /metrics for Prometheus, and /healthz: "
        "host:port of loopback (port 0: any free one, which the log names) or unix:PATH. Those "
        "may use it who may call the service.",
    )
    page: Switch = Field(
        default=True,
        description="Serve the page, which shows the pool, its logs and descriptions, and starts, "
        "evicts and pins models. With false only /metrics and /healthz "
        "are served, which show the names of your models and change nothing.",
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
    stall_timeout: PositiveOrForever = Field(
        default=_SETTINGS.stall_timeout,
        description="How long a starting process may make no progress before it is ended; forever: "
        "only start_timeout ends it. Progress is at least 1 MiB read, written or taken as memory, "
        "or processor time of a twentieth of this time; processor time alone counts for ten "
        "minutes at most. Work outside of the process and its descendants does not count.",
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
        "Kept prompts make the first answers after a start quick. They contain what was asked, and "
        "only you can read them. With this, vllm-mlx is started with --continuous-batching.",
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
