"""Every key of the configuration. The descriptions are what the documentation is made of."""

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import BaseModel, ConfigDict, Field

from pool_service.adapters.launch_plan import Kind, option_value
from pool_service.adapters.runtime import RuntimeOptions
from pool_service.adapters.vllm_mlx import CHOOSES_PORT
from pool_service.config.values import (
    Addresses,
    Command,
    Count,
    DefaultText,
    Directory,
    Format,
    HealthPath,
    HistoryLength,
    KeepAlive,
    Level,
    LogBytes,
    ModelName,
    PositiveSeconds,
    RuntimeKind,
    RuntimeModel,
    Seconds,
    ServedName,
    Switch,
    Variables,
)
from pool_service.core.catalogue import Catalogue
from pool_service.core.types import Limits, Settings

APP_NAME = "pool-service"

_LIMITS = Limits()
_RUNTIME = RuntimeOptions(data_dir=Path())
_SETTINGS = Settings(runtime_model="")


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        default_factory=lambda: platformdirs.user_state_path(APP_NAME),
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
        default_factory=lambda: platformdirs.user_data_path(APP_NAME),
        validate_default=True,
        description="Where the runtime is installed if it is not found elsewhere.",
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
        description="How many processes one start may cost where other programs take the port "
        "that was chosen for it.",
    )
    backoff_first: Seconds = Field(
        default=_LIMITS.backoff_first,
        description="How long after a first death a server that is waited for is started again; "
        "doubled with each further one.",
    )
    backoff_most: Seconds = Field(
        default=_LIMITS.backoff_most,
        description="The longest of these delays, and how long a model that died too often is "
        "left alone.",
    )
    crash_limit: Count = Field(
        default=_LIMITS.crash_limit, description="How many deaths are too often."
    )
    crash_window: Seconds = Field(
        default=_LIMITS.crash_window, description="Within how much time they count."
    )
    stable_run: Seconds = Field(
        default=_LIMITS.stable_run,
        description="How long a server must be READY for its earlier deaths to be forgotten.",
    )
    failure_memory: Seconds = Field(
        default=_LIMITS.failure_memory,
        description="For how long a start that was refused is answered from memory.",
    )
    pulse_interval: PositiveSeconds = Field(
        default=_LIMITS.pulse_interval,
        description="The time between two looks at a READY server, whether it still answers.",
    )
    pulse_limit: Count = Field(
        default=_LIMITS.pulse_limit,
        description="After how many looks in a row without an answer and without any progress a "
        "server is wedged and replaced.",
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
        description="How long calls wait, at the start, until it is known how the servers of an "
        "earlier service are.",
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


class RuntimeSection(Section):
    """The program that serves models, one process for each."""

    command: Command = Field(
        default=_RUNTIME.command,
        description="The program and its arguments, never a shell; {runtime_model}, {port} and "
        "{model} are filled in. A program named vllm-mlx also gets the options that the pool "
        "relies on. The default one is looked for beside the running interpreter, on PATH, "
        "and in data_dir.",
    )
    kind: Annotated[RuntimeKind, DefaultText("told by the program's name")] = Field(
        default=_RUNTIME.kind,
        description="What the program is to be treated as: vllm-mlx, or any other program that "
        "serves one model per process.",
    )
    health_path: HealthPath = Field(
        default=_RUNTIME.health_path,
        description="The path that answers 200 once the model is loaded.",
    )
    served_model_name: Annotated[
        ServedName, DefaultText("`{model}` for vllm-mlx, `{runtime_model}` for others")
    ] = Field(
        default=_RUNTIME.served_model_name,
        description="What the model field of inference requests must say; {model} and "
        "{runtime_model} are filled in.",
    )
    provision: Switch = Field(
        default=_RUNTIME.provision,
        description="Install vllm-mlx into data_dir at the first need if it is not found, which "
        "takes minutes and gigabytes.",
    )
    environment: Variables = Field(
        default=_RUNTIME.environment,
        description="Variables that servers get besides the harmless part of the service's own "
        "environment (PATH, HOME, HF_*, proxies and the like).",
    )

    def contradictions(self, kind: Kind) -> Iterator[tuple[str, str]]:
        """What of the command a runtime of this kind cannot work with, and the remedy."""
        if kind != "vllm-mlx":
            return
        if not any("{runtime_model}" in part for part in self.command):
            yield "command", 'must tell vllm-mlx what to load: add "{runtime_model}" behind "serve"'
        if option_value(self.command, "--port") not in {"{port}", CHOOSES_PORT}:
            yield "command", 'must tell vllm-mlx its port: add "--port", "{port}"'


class LogsSection(Section):
    """What servers write, kept under the state directory."""

    max_bytes: LogBytes = Field(
        default=16 * 1024 * 1024,
        description="How large a log may grow before it is cut to its newer half.",
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
    min_residency: Seconds = Field(
        default=_SETTINGS.min_residency,
        description="How long a server stays after each Ensure whatever its keep alive, so that "
        "the caller's first request finds it.",
    )
    start_timeout: PositiveSeconds = Field(
        default=_SETTINGS.start_timeout,
        description="How long a process may take from its start until it is ready; a first "
        "start includes the download of the model.",
    )
    probe_timeout: PositiveSeconds = Field(
        default=_SETTINGS.probe_timeout,
        description="How long one request to the health path may take; less than start_timeout.",
    )
    drain_timeout: Seconds = Field(
        default=_SETTINGS.drain_timeout,
        description="How long requests in flight may go on after a server was told to stop.",
    )
    stop_timeout: PositiveSeconds = Field(
        default=_SETTINGS.stop_timeout,
        description="How long each further step of a stop (SIGINT, then SIGKILL) waits for the "
        "one before.",
    )

    def over(self, settings: Settings) -> Settings:
        """The settings, with what is set here in place of theirs."""
        return replace(settings, **self.model_dump(exclude_unset=True))

    def contradictions(self, settings: Settings) -> Iterator[tuple[str, str]]:
        """The keys set here that contradict others in the resulting `settings`, and how."""
        own = self.model_fields_set & {"probe_timeout", "start_timeout"}
        if own and settings.probe_timeout >= settings.start_timeout:
            lengths = f"{settings.probe_timeout:g} s", f"{settings.start_timeout:g} s"
            yield (
                min(own),
                "probe_timeout ({}) must be less than start_timeout ({})".format(*lengths),
            )


class ModelSection(DefaultsSection):
    """One model. What is not set here is as in [defaults]."""

    runtime_model: Annotated[
        RuntimeModel, DefaultText("the model's name without a leading `vllm-mlx/`")
    ] = Field(
        default=_SETTINGS.runtime_model,
        description="What the runtime is asked to load for it: a Hugging Face id or a local "
        "directory.",
    )


class Config(Section):
    """All that can be configured, validated; what the composition root builds from."""

    service: ServiceSection
    runtime: RuntimeSection
    logs: LogsSection
    defaults: DefaultsSection
    models: Mapping[ModelName, ModelSection] = Field(default_factory=dict)

    @property
    def catalogue(self) -> Catalogue:
        """The settings of each model, and those of all others."""
        defaults = self.defaults.over(_SETTINGS)
        return Catalogue(defaults, {name: own.over(defaults) for name, own in self.models.items()})

    def contradictions(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Values that are each valid, but not together: the way to a key, and what is wrong."""
        for key, what in self.runtime.contradictions(self.runtime_options.effective_kind):
            yield ("runtime", key), what
        catalogue = self.catalogue
        for key, what in self.defaults.contradictions(catalogue.defaults):
            yield ("defaults", key), what
        for name, own in self.models.items():
            for key, what in own.contradictions(catalogue.models[name]):
                yield ("models", name, key), what

    @property
    def limits(self) -> Limits:
        """What holds for the pool as a whole."""
        service = self.service
        return Limits(**{field.name: getattr(service, field.name) for field in fields(Limits)})

    @property
    def runtime_options(self) -> RuntimeOptions:
        """Which program serves models, and where it is installed."""
        return RuntimeOptions(data_dir=self.service.data_dir, **dict(self.runtime))
