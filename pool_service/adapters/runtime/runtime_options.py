"""The options of one runtime, as the configuration gives them."""

from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.launch_plan import Kind, kind_of

DEFAULT_COMMAND = (vllm_mlx.PROGRAM, "serve", "{runtime_model}", "--port", "{port}")


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """The configuration of one runtime.

    data_dir: the directory into which vllm-mlx is installed.
    command: a template of the command line, run without a shell; its placeholders are
        {runtime_model}, {port} and {model}.
    kind: how the program is treated; None: by its name.
    health_path: answers 200 when the model is loaded.
    served_model_name: the model name that requests must use; None: the model for vllm-mlx, the
        runtime model for other kinds.
    provision: install vllm-mlx when it is first needed.
    environment: additional variables of servers.
    ready_path: a POST of ready_body to it must answer 200 before a server is READY; empty: none.
    busy_path: its answer has the busy_values, whose sum is the requests in flight; empty: none.
    drains: whether a server finishes its requests in flight after SIGTERM; None: by its kind.
    allowed_hosts: host names besides loopback by which a vllm-mlx server may be called.
    trusted_directories: directories whose files are used even if other users can write to them.
    """

    data_dir: Path
    command: tuple[str, ...] = DEFAULT_COMMAND
    kind: Kind | None = None
    health_path: str = "/health"
    served_model_name: str | None = None
    provision: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    ready_path: str = ""
    ready_body: str = ""
    busy_path: str = ""
    busy_values: tuple[str, ...] = ()
    drains: bool | None = None
    allowed_hosts: tuple[str, ...] = ()
    trusted_directories: tuple[Path, ...] = ()

    @property
    def effective_drains(self) -> bool:
        """Whether a server finishes its requests after SIGTERM: as configured, else by its kind."""
        return self.effective_kind == "vllm-mlx" if self.drains is None else self.drains

    @property
    def effective_kind(self) -> Kind:
        """The configured kind, else that by the program's name."""
        return self.kind or kind_of(self.command)
