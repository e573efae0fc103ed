"""The options of one runtime, as the configuration gives them."""

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.descriptions.description import ProgramDescription
from pool_service.adapters.runtime.descriptions.programs import description_of
from pool_service.adapters.runtime.launch_plan import LOOPBACK, Kind, kind_of, option_names
from pool_service.core.activity import UseSignals
from pool_service.core.types import Settings

SandboxMode = Literal["auto", "on", "off"]

DEFAULT_HEALTH_PATH = "/health"
DEFAULT_COMMAND = (vllm_mlx.PROGRAM, "serve", "{runtime_model}", "--port", "{port}")


def whole_command(command: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command; of vllm-mlx the name alone is enough, and stands for that of the default.

    The commands of other known programs are completed for each server, by its model.
    """
    is_name = len(command) == 1 and kind_of(command) == "vllm-mlx"
    return (*command, *DEFAULT_COMMAND[1:]) if is_name else command


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """The configuration of one runtime.

    What is not set is as the description of the program says, if the pool knows it
    (`descriptions/programs.py`).

    data_dir: the directory into which vllm-mlx is installed.
    command: a template of the command line, run without a shell; its placeholders are
        {runtime_model}, {port}, {host} and {model}.
    kind: how the program is treated; None: by its name.
    health_path: answers 200 when the model is loaded; None: not set.
    served_model_name: the model name that requests must use; None: not set.
    provision: install vllm-mlx when it is first needed.
    environment: additional variables of servers.
    ready_path: a POST of ready_body to it must answer 200 before a server is READY; empty: none.
    busy_path: its answer has the busy_values, whose sum is the requests in flight, and the
        use_values, whose sum changes with each request; empty: none.
    drains: whether a server finishes its requests in flight after SIGTERM; None: by its kind.
    allowed_hosts: host names besides loopback by which a vllm-mlx server may be called.
    trusted_directories: directories whose files are used even if other users can write to them.
    server_keys: whether each server has a key of its own, where its program can get one.
    sandbox: whether processes are confined; auto: those of vllm-mlx, where that is possible.
    sandbox_readable: directories that confined processes may read besides what they need.
    model_directories: the configured models that are directories.
    host: the one IP address at which servers must listen; empty: they are told to listen on
        LOOPBACK, and may listen elsewhere as their command says.
    """

    data_dir: Path
    command: tuple[str, ...] = DEFAULT_COMMAND
    kind: Kind | None = None
    health_path: str | None = None
    served_model_name: str | None = None
    provision: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    ready_path: str = ""
    ready_body: str = ""
    busy_path: str = ""
    busy_values: tuple[str, ...] = ()
    use_values: tuple[str, ...] = ()
    drains: bool | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_directories: tuple[Path, ...] = ()
    server_keys: bool = True
    sandbox: SandboxMode = "auto"
    sandbox_readable: tuple[Path, ...] = ()
    model_directories: tuple[str, ...] = ()
    host: str = ""

    @property
    def bound_host(self) -> str:
        """The address at which servers are told to listen."""
        return self.host or LOOPBACK

    @property
    def leaves_loopback(self) -> bool:
        """Whether other machines are to reach the servers."""
        return not ip_address(self.bound_host).is_loopback

    @property
    def description(self) -> ProgramDescription | None:
        """The description of the program; None if it is not known, or vllm-mlx.

        None also if the kind is configured: then the program is only what the configuration says.
        """
        return description_of(self.command) if self.kind is None else None

    @property
    def effective_drains(self) -> bool:
        """Whether a server finishes its requests after SIGTERM."""
        if self.drains is not None:
            return self.drains
        described = self.description
        return described.drains if described else self.effective_kind == "vllm-mlx"

    @property
    def effective_health_path(self) -> str:
        """The path that answers 200 when the model is loaded."""
        described = self.description
        if self.health_path is not None:
            return self.health_path
        return described.health_path if described else DEFAULT_HEALTH_PATH

    @property
    def ready_request(self) -> tuple[str, str]:
        """The path and the body of the request that must be answered first; both empty: none."""
        described = self.description
        if self.ready_path or described is None:
            return self.ready_path, self.ready_body
        return described.ready_path, described.ready_body

    @property
    def known_use(self) -> UseSignals:
        """Where a program that is not vllm-mlx reports its use.

        What the configuration names is taken to count every request.
        """
        described = self.description
        if self.busy_path:
            return UseSignals(self.busy_path, self.busy_values, self.use_values, counts_all=True)
        return described.use if described else UseSignals()

    @property
    def effective_kind(self) -> Kind:
        """The configured kind, else that by the program's name."""
        return self.kind or kind_of(self.command)

    @property
    def is_vllm_mlx_itself(self) -> bool:
        """Whether the program itself is vllm-mlx, by its name.

        Only then are its version, options and interpreter queried, and it never downloads by
        itself. The configured `kind` is another matter: a wrapper of another name is treated as
        vllm-mlx too if the operator says so, but may do anything before it runs vllm-mlx.
        """
        return kind_of(self.command) == "vllm-mlx"

    @property
    def is_sent_its_key(self) -> bool:
        """Whether a server is sent its key, and needs no placeholder for it."""
        return self.is_vllm_mlx_itself and self.effective_kind == "vllm-mlx"

    def prompts_obstacle(self, settings: Settings) -> str:
        """Return why a server with these settings does not keep its computed prompts.

        Empty if it does, as far as that can be known without its program. Else a clause such as
        "beside --enable-mtp"; the pool does not add BATCHING to the options then.
        """
        names = option_names((*self.command, *settings.arguments))
        excluding = vllm_mlx.NOT_WITH_PROMPT_CACHE
        if vllm_mlx.BATCHING not in names:
            excluding |= vllm_mlx.NOT_WITH_ADDED_BATCHING
        if not settings.prompt_cache:
            return "while prompt_cache is false"
        if not self.is_vllm_mlx_itself:
            return "for a program that is not vllm-mlx itself"
        return next((f"beside {name}" for name in sorted(names & excluding)), "")
