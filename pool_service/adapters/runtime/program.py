"""The runtime: which program serves a model, and how it is started.

The program is looked for at each start (some microseconds), so that one that was
installed, upgraded or removed meanwhile counts; its version is asked for once.
"""

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.arguments import argument_flaw, argument_flaws, options_of
from pool_service.adapters.runtime.launch_plan import (
    Kind,
    Names,
    check_directory,
    check_names,
    filled,
    filled_json,
    kind_of,
    option_value,
    takes_port,
    with_options,
)
from pool_service.adapters.runtime.provision import Progress, Provisioner
from pool_service.adapters.runtime.search import (
    INSTALL,
    Answers,
    Program,
    check_version,
    check_writers,
    interpreter_of,
    release_of,
    search_configured,
    search_default,
    version_of,
)
from pool_service.adapters.sockets.port_book import PortBook
from pool_service.adapters.system.environment import (
    is_offline,
    scrubbed,
    with_absolute_paths,
    without_secrets,
)
from pool_service.core.activity import UseSignals
from pool_service.core.errors import PoolError, RuntimeUnavailable
from pool_service.core.types import LaunchPlan, Settings

DEFAULT_COMMAND = (vllm_mlx.PROGRAM, "serve", "{runtime_model}", "--port", "{port}")


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Which program serves models.

    data_dir: where it is provisioned; command: a template of arguments, never a shell, with
    {runtime_model}, {port} and {model}; kind: None is told by the program's name;
    health_path: answers 200 when the model is loaded; served_model_name: what requests must
    name, None is the model for vllm-mlx and the runtime model for others; provision: install
    vllm-mlx at the first need; environment: variables that servers get besides; ready_path:
    must answer 200 to a POST of ready_body before it is ready, empty if nothing must; busy_path:
    tells busy_values, which add up to the requests in flight, empty if nothing does; drains: it
    finishes what is in flight after SIGTERM, None is whether its kind is known to;
    allowed_hosts: names besides loopback by which a vllm-mlx may be called;
    trusted_directories: files below them count though others can write them.
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
        """Whether SIGTERM lets it finish what is in flight: as is set, else if it is known to."""
        return self.effective_kind == "vllm-mlx" if self.drains is None else self.drains

    @property
    def effective_kind(self) -> Kind:
        """The kind that is set, else the one that the program's name tells."""
        return self.kind or kind_of(self.command)


@dataclass(frozen=True, slots=True)
class RuntimeDescription:
    """The data of `pool-service runtime show`; version and interpreter only of vllm-mlx."""

    path: str
    found: str
    kind: Kind
    version: str | None
    interpreter: str | None

    def __str__(self) -> str:
        version = f" {self.version}" if self.version else ""
        return f"{self.kind}{version}, {self.found}: {self.path}"


class CommandRuntime:
    """One runtime, by its command template.

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
        # Of os.environ each look would decode each variable.
        self._inherited = dict(inherited)
        self._versions = Answers(version_of)
        self._arguments = Answers(options_of)
        self._ports = PortBook()

    @property
    def kind(self) -> Kind:
        """The kind that its program is treated as."""
        return self._options.effective_kind

    @property
    def trusted_directories(self) -> tuple[Path, ...]:
        """The directories whose files count though others can write them."""
        return self._options.trusted_directories

    def further_models(self, settings: Settings) -> tuple[str, ...]:
        """Return what a server with these settings loads besides its model, by its arguments."""
        if not self.loads_from_disk:
            return ()
        command = (*self._options.command, *settings.arguments)
        found = (option_value(command, option) for option in vllm_mlx.MODEL_OPTIONS)
        return tuple(dict.fromkeys(name for name in found if name))

    def commanding_file(self, settings: Settings) -> Path | None:
        """Return the file that says which programs a server with these settings runs besides."""
        if self.kind != "vllm-mlx":
            return None
        command = (*self._options.command, *settings.arguments)
        variables = dict(self._options.environment) | dict(settings.environment)
        name = option_value(command, vllm_mlx.TOOLS) or variables.get(vllm_mlx.TOOLS_VARIABLE)
        return Path(name) if name and Path(name).is_absolute() else None

    @property
    def loads_from_disk(self) -> bool:
        """Whether it is a vllm-mlx by its name, which here downloads nothing itself.

        A wrapper of another name may do anything, and is not asked its version either.
        """
        return kind_of(self._options.command) == "vllm-mlx"

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find (or provision) the program and write down how to start it.

        Raises RuntimeUnavailable, or ModelRejected where that can be told early.
        """
        check_names(model, settings.runtime_model)
        if self.kind == "vllm-mlx":
            await asyncio.to_thread(check_directory, model, settings.runtime_model)
        try:
            program = await self._usable_program()
        except PoolError as error:
            raise replace(error, model=model) from error
        if settings.arguments:
            await self._check_arguments(program, model, settings)
        version = await self._versions.of(program.path) if self.loads_from_disk else None
        return self._plan(program, version, model, settings)

    def environment(
        self, settings: Settings, *, fetches: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """Return the variables of a process with these settings, sorted by their names.

        fetches: it is one that is to download, if the operator lets it. Raises
        RuntimeUnavailable where a variable that says where models are means no path.
        """
        extra = vllm_mlx.ENVIRONMENT if self.kind == "vllm-mlx" else ()
        offline = vllm_mlx.OFFLINE if self.loads_from_disk and not fetches else ()
        own, hosts = self._options.environment, self._options.allowed_hosts
        told = ((vllm_mlx.ALLOWED_HOSTS, ",".join(hosts)),) if extra and hosts else ()
        said = (extra, offline, own, settings.environment, told)
        environment = scrubbed(self._inherited, *said, with_secrets=fetches)
        if offline and is_offline(dict(environment)):
            environment = without_secrets(environment)
        return with_absolute_paths(environment, self._inherited)

    async def version(self) -> str:
        """Return the version of what would be started now; empty where that cannot be told."""
        with suppress(RuntimeUnavailable):
            program = self._found()
            if program is not None and self.loads_from_disk:
                return await self._versions.of(program.path) or ""
        return ""

    async def interpreter(self) -> str:
        """The Python of a vllm-mlx, which can do what it can. Raises RuntimeUnavailable."""
        program = await self._usable_program()
        found = interpreter_of(program.path)
        if found is None:
            raise RuntimeUnavailable(
                f"'{program.path}' is no script of a Python environment, so nothing can be "
                "downloaded with it. Download the model by hand."
            )
        return found

    async def describe(self) -> RuntimeDescription:
        """Describe what would be started now, without installing anything.

        Raises RuntimeUnavailable where prepare() would, or would install.
        """
        program = await self._usable_program(installs=False)
        version = await self._checked_version(program)
        interpreter = interpreter_of(program.path) if self.loads_from_disk else None
        return RuntimeDescription(str(program.path), program.found, self.kind, version, interpreter)

    def is_found(self) -> bool:
        """Return whether its program is on this machine, usable or not."""
        return self._found() is not None

    async def _usable_program(self, *, installs: bool = True) -> Program:
        program = self._found()
        if program is None:
            if not (installs and self._options.provision):
                raise _missing()
            arguments = (self._progress,) if self._progress else ()
            path = await self._provisioner.install(*arguments)
            program = Program(path, "just installed")
        self._check_writers(program)
        await self._checked_version(program)
        return program

    def _check_writers(self, program: Program) -> None:
        check_writers(program, self._options.command[1:], self._options.trusted_directories)

    def _found(self) -> Program | None:
        name = self._options.command[0]
        if name == vllm_mlx.PROGRAM:
            return search_default(self._provisioner.installed)
        return search_configured(name)

    async def _checked_version(self, program: Program) -> str | None:
        if not self.loads_from_disk:
            return None
        version = await self._versions.of(program.path)
        check_version(program, version)
        return version

    async def argument_flaws(self, settings: Settings) -> list[str]:
        """Return what is wrong with the arguments of settings, as far as its program tells that."""
        if not (self.loads_from_disk and settings.arguments):
            return []
        try:
            program = await self._usable_program(installs=False)
        except RuntimeUnavailable:
            return list(argument_flaws(settings.arguments, {}))
        return list(argument_flaws(settings.arguments, await self._arguments.of(program.path)))

    async def _check_arguments(self, program: Program, model: str, settings: Settings) -> None:
        if not self.loads_from_disk:
            return
        options = await self._arguments.of(program.path)
        flaw = argument_flaw(settings.arguments, options) if options else None
        if flaw is not None:
            raise RuntimeUnavailable(
                f"{model!r} cannot be started with its arguments: {flaw}. Correct "
                f"{settings.arguments_section} arguments in the configuration, and reload.",
                model=model,
            )

    def _plan(
        self, program: Program, version: str | None, model: str, settings: Settings
    ) -> LaunchPlan:
        options, runtime_model = self._options, settings.runtime_model
        port: int | None = None
        command = (str(program.path), *options.command[1:], *settings.arguments)
        if self.kind == "vllm-mlx":
            command += (vllm_mlx.TRUST,) if settings.trust_remote_code else ()
            served = options.served_model_name or "{model}"
            command = with_options(command, served, metrics=version is not None)
            served = option_value(command, vllm_mlx.SERVED_MODEL_NAME) or served
            told = vllm_mlx.CHOOSES_PORT
        else:
            served = options.served_model_name or "{runtime_model}"
            port = self._ports.reserve() if takes_port(command) else None
            told = str(port)
        names = Names(model, runtime_model, told)
        return LaunchPlan(
            argv=filled(command, names),
            environment=self.environment(settings),
            port=port,
            health_path=options.health_path,
            served_model_name=filled((served,), names)[0],
            nonce=secrets.token_hex(16),
            kind=self.kind,
            use=self._use_signals(command, version),
            drains=options.effective_drains,
            ready_path=options.ready_path,
            ready_body=filled_json(options.ready_body, names),
        )

    def _use_signals(self, command: Sequence[str], version: str | None) -> UseSignals:
        if self.kind == "vllm-mlx":
            release = release_of(version) if version else None
            return vllm_mlx.use_signals(release, with_metrics=vllm_mlx.METRICS in command)
        path, values = self._options.busy_path, self._options.busy_values
        return UseSignals(path, values, counts_all=True) if path else UseSignals()


def _missing() -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"vllm-mlx was not found beside the running interpreter, on PATH or in the data "
        f"directory; run '{INSTALL}', or set [runtime] command."
    )
