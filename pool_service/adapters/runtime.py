"""The runtime: which program serves a model, and how it is started.

The program is looked for at each start (some microseconds), so that one that was
installed, upgraded or removed meanwhile counts; its version is asked for once.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pool_service.adapters import plain_runtime, vllm_mlx
from pool_service.adapters.diagnosis import Diagnose
from pool_service.adapters.environment import scrubbed
from pool_service.adapters.launch_plan import (
    Kind,
    Names,
    check_directory,
    check_names,
    filled,
    kind_of,
    option_value,
    takes_port,
    with_options,
)
from pool_service.adapters.port_book import PortBook
from pool_service.adapters.provision import Progress, Provisioner
from pool_service.adapters.runtime_search import (
    INSTALL,
    Program,
    Versions,
    check_version,
    interpreter_of,
    search_configured,
    search_default,
)
from pool_service.core.errors import PoolError, RuntimeUnavailable
from pool_service.core.types import Appraisal, LaunchPlan, Settings, Source
from pool_service.ports import FetchProgress

DEFAULT_COMMAND = (vllm_mlx.PROGRAM, "serve", "{runtime_model}", "--port", "{port}")


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Which program serves models.

    data_dir: where it is provisioned; command: a template of arguments, never a shell, with
    {runtime_model}, {port} and {model}; kind: None is told by the program's name;
    health_path: answers 200 when the model is loaded; served_model_name: what requests must
    name, None is the model for vllm-mlx and the runtime model for others; provision: install
    vllm-mlx at the first need; environment: variables that servers get besides.
    """

    data_dir: Path
    command: tuple[str, ...] = DEFAULT_COMMAND
    kind: Kind | None = None
    health_path: str = "/health"
    served_model_name: str | None = None
    provision: bool = False
    environment: tuple[tuple[str, str], ...] = ()

    @property
    def effective_kind(self) -> Kind:
        """The kind that is set, else the one that the program's name tells."""
        return self.kind or kind_of(self.command)


@dataclass(frozen=True, slots=True)
class RuntimeDescription:
    """What `pool-service runtime show` tells; version and interpreter are of a vllm-mlx."""

    path: str
    found: str
    kind: Kind
    version: str | None
    interpreter: str | None


class CommandRuntime:
    """Implements the port `Runtime` by a command template.

    provisioner: default, into the options' data_dir; progress: of an installation at first
    need; inherited: the environment of which servers get the harmless part.
    """

    def __init__(
        self,
        options: RuntimeOptions,
        *,
        provisioner: Provisioner | None = None,
        progress: Progress | None = None,
        inherited: Mapping[str, str] = os.environ,
    ) -> None:
        self._options = options
        self._provisioner = provisioner or Provisioner(options.data_dir)
        self._progress = progress
        self._inherited = inherited
        self._versions = Versions()
        self._ports = PortBook()

    @property
    def diagnose(self) -> Diagnose:
        """Tells what the end of one of its processes means."""
        kind = self._options.effective_kind
        return vllm_mlx.diagnose if kind == "vllm-mlx" else plain_runtime.diagnose

    async def appraise(self, model: str, settings: Settings) -> Appraisal:
        """What its server will need of memory; see the port."""
        check_names(model, settings.runtime_model)
        if settings.expected_memory is None:
            return Appraisal(0, Source.UNKNOWN)
        return Appraisal(settings.expected_memory, Source.DECLARED)

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        """Nothing: the runtime downloads what it is asked to load."""

    def learn(self, settings: Settings, needed: int) -> None:
        """Nothing is remembered."""

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find (or provision) the program and write down how to start it; see the port."""
        check_names(model, settings.runtime_model)
        if self._options.effective_kind == "vllm-mlx":
            await asyncio.to_thread(check_directory, model, settings.runtime_model)
        try:
            program = await self._usable_program()
        except PoolError as error:
            raise replace(error, model=model) from error
        return self._plan(program, model, settings.runtime_model)

    async def describe(self) -> RuntimeDescription:
        """What would be started now, without installing anything.

        Raises RuntimeUnavailable where prepare() would, or would install.
        """
        program = self._found()
        if program is None:
            raise _missing()
        version = await self._checked_version(program)
        is_vllm_mlx = self._is_vllm_mlx()
        interpreter = interpreter_of(program.path) if is_vllm_mlx else None
        kind = self._options.effective_kind
        return RuntimeDescription(str(program.path), program.found, kind, version, interpreter)

    async def _usable_program(self) -> Program:
        program = self._found()
        if program is None:
            if not self._options.provision:
                raise _missing()
            arguments = (self._progress,) if self._progress else ()
            path = await self._provisioner.install(*arguments)
            program = Program(path, "just installed")
        await self._checked_version(program)
        return program

    def _found(self) -> Program | None:
        name = self._options.command[0]
        if name == vllm_mlx.PROGRAM:
            return search_default(self._provisioner.installed)
        return search_configured(name)

    def _is_vllm_mlx(self) -> bool:
        """Whether it goes by that name: a wrapper of another name is not asked its version."""
        return kind_of(self._options.command) == "vllm-mlx"

    async def _checked_version(self, program: Program) -> str | None:
        if not self._is_vllm_mlx():
            return None
        version = await self._versions.version_of(program.path)
        check_version(program, version)
        return version

    def _plan(self, program: Program, model: str, runtime_model: str) -> LaunchPlan:
        options = self._options
        extra: tuple[tuple[str, str], ...] = ()
        port: int | None = None
        command = (str(program.path), *options.command[1:])
        if options.effective_kind == "vllm-mlx":
            served = options.served_model_name or "{model}"
            command = with_options(command, served)
            served = option_value(command, vllm_mlx.SERVED_MODEL_NAME) or served
            extra, told = vllm_mlx.ENVIRONMENT, vllm_mlx.CHOOSES_PORT
        else:
            served = options.served_model_name or "{runtime_model}"
            port = self._ports.reserve() if takes_port(command) else None
            told = str(port)
        names = Names(model, runtime_model, told)
        return LaunchPlan(
            argv=filled(command, names),
            environment=scrubbed(self._inherited, extra, options.environment),
            port=port,
            health_path=options.health_path,
            served_model_name=filled((served,), names)[0],
            nonce=secrets.token_hex(16),
        )


def _missing() -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"vllm-mlx was not found beside the running interpreter, on PATH or in the data "
        f"directory; run '{INSTALL}', or set [runtime] command."
    )
