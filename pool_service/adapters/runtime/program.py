"""Runtimes: the program that serves models, and the launch plans for it.

The program is searched anew for each start, which takes some microseconds, as it may have been
installed, upgraded or removed meanwhile. Its version is queried once, until its file changes.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import structlog

from pool_service.access.server_keys import new_key
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.advertised import check_address
from pool_service.adapters.runtime.argument_checks import argument_flaw, argument_flaws, options_of
from pool_service.adapters.runtime.commands import (
    embedding_model_name,
    other_command,
    use_of_command,
    with_warm_prompts,
)
from pool_service.adapters.runtime.key_delivery import (
    FILE_NAME,
    has_key,
    key_files,
    key_variables,
    with_key,
)
from pool_service.adapters.runtime.launch_plan import (
    Kind,
    Names,
    check_directory,
    check_names,
    fill,
    fill_json,
    option_value,
    takes_port,
    with_options,
)
from pool_service.adapters.runtime.provision import Progress, Provisioner
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.runtime_report import (
    RuntimeDescription,
    describe,
    package_flaws,
    use_costs,
)
from pool_service.adapters.runtime.search import (
    INSTALL,
    Program,
    ProgramCache,
    Versions,
    check_version,
    check_writers,
    interpreter_of,
    python_of,
    search_configured,
    search_default,
    versions_of,
)
from pool_service.adapters.sockets.free_ports import FreePorts
from pool_service.adapters.system.server_environment import (
    is_offline,
    scrub,
    with_absolute_paths,
    without_secrets,
)
from pool_service.core.errors import PoolError, RuntimeUnavailable
from pool_service.core.types import LaunchPlan, PromptCache, Settings

_log = structlog.get_logger(__name__)

_KEPT_ENVIRONMENTS = 16
"""The environments of servers that are kept, some kilobytes each."""

FindPrompts = Callable[[Versions | None], Awaitable[PromptCache | None]]
"""Finds the place of a server's computed prompts, by the versions with which it computes.

None: it keeps none. Called only when nothing else that is known can refuse the start, since it
removes what no later server can use.
"""


class CommandRuntime:
    """Finds the program of one runtime, and makes launch plans from its command template.

    provisioner: installs vllm-mlx; by default into the options' data_dir.
    progress: receives the progress of an installation at first need.
    inherited: the service's environment; servers get its allowed part.
    work_dirs: the directory that will have the working directory of each server, by its nonce.
    """

    def __init__(
        self,
        options: RuntimeOptions,
        *,
        provisioner: Provisioner | None = None,
        progress: Progress | None = None,
        inherited: Mapping[str, str] = os.environ,
        work_dirs: Path = Path(),
    ) -> None:
        self._options = options
        self._provisioner = provisioner or Provisioner(options.data_dir)
        self._progress = progress
        self._work_dirs = work_dirs
        # A copy, as os.environ decodes each variable at each access.
        self._inherited = dict(inherited)
        self._versions = ProgramCache(versions_of, lambda found: found.places)
        self._program_options = ProgramCache(options_of)
        self._ports = FreePorts(options.bound_host)
        # An offer, the estimate of a start and its launch want the same one within seconds.
        self._environments = lru_cache(_KEPT_ENVIRONMENTS)(self._new_environment)

    @property
    def kind(self) -> Kind:
        """The kind of runtime that the program is treated as."""
        return self._options.effective_kind

    @property
    def trusted_directories(self) -> tuple[Path, ...]:
        """The directories whose files are used even if other users can write to them."""
        return self._options.trusted_directories

    def further_models(self, settings: Settings) -> tuple[str, ...]:
        """Return the models that the arguments of a server name besides its own model."""
        if not self.is_vllm_mlx_itself:
            return ()
        command = (*self._options.command, *settings.arguments)
        found = (option_value(command, option) for option in vllm_mlx.MODEL_OPTIONS)
        return tuple(dict.fromkeys(name for name in found if name))

    def tools_file(self, settings: Settings) -> Path | None:
        """Return the file that names programs for a server to run as tools.

        None without one, and for a relative path, which leads nowhere in a server's directory.
        """
        if self.kind != "vllm-mlx":
            return None
        command = (*self._options.command, *settings.arguments)
        variables = dict(self._options.environment) | dict(settings.environment)
        name = option_value(command, vllm_mlx.TOOLS) or variables.get(vllm_mlx.TOOLS_VARIABLE)
        return Path(name) if name and Path(name).is_absolute() else None

    @property
    def is_vllm_mlx_itself(self) -> bool:
        """Whether the program itself is vllm-mlx; see `RuntimeOptions`."""
        return self._options.is_vllm_mlx_itself

    def prompt_bytes(self, settings: Settings) -> int:
        """Return the bytes of computed prompts that a server keeps, by its settings; 0: none."""
        return 0 if self._options.prompts_obstacle(settings) else settings.prompt_cache

    async def prepare(
        self, model: str, settings: Settings, find_prompts: FindPrompts | None = None
    ) -> LaunchPlan:
        """Find or install the program, and return the plan of one start.

        find_prompts: None: the server keeps its computed prompts nowhere.

        Raises RuntimeUnavailable, and ModelRejected if the model's name or path is not valid.
        """
        check_names(model, settings.runtime_model)
        check_address(self._options.host, model)
        if self.kind == "vllm-mlx":
            await asyncio.to_thread(check_directory, model, settings.runtime_model)
        try:
            program = await self._usable_program()
        except PoolError as error:
            raise replace(error, model=model) from error
        if settings.arguments or settings.warm_prompts:
            await self._check_arguments(program, model, settings)
        versions = await self._versions_of(program)
        for flaw in package_flaws(versions):
            _log.warning("a server may not work", model=model, why=flaw)
        obstacle = await asyncio.to_thread(self._prompts_obstacle, program, settings)
        place = await find_prompts(None if obstacle else versions) if find_prompts else None
        keyed = await asyncio.to_thread(has_key, self._options, program, settings)
        key = new_key() if keyed else ""
        plan = self._plan(program, versions.own, model, settings, place, key, keeps=not obstacle)
        if settings.warm_prompts and not plan.files:
            why = f"{vllm_mlx.BATCHING} is not added {obstacle}"
            _log.warning("warm_prompts are not computed", model=model, why=why)
        return plan

    def _prompts_obstacle(self, program: Program, settings: Settings) -> str:
        """Return why a server of this program does not keep its prompts; empty if it does.

        Without the launcher, which only Python scripts get, it would keep them in the home
        directory, without a bound. Blocking.
        """
        found = self._options.prompts_obstacle(settings)
        if found or python_of(program.path):
            return found
        return "for a program that is no Python script"

    def environment(
        self, settings: Settings, *, fetches: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """Return the environment of a process with these settings, sorted by name.

        fetches: whether the process is a download: it gets inherited secrets such as the Hub's
            token, and is not set offline.

        Raises RuntimeUnavailable if a variable that locates models is not a valid path.
        """
        return self._environments(settings, fetches=fetches)

    def _new_environment(self, settings: Settings, *, fetches: bool) -> tuple[tuple[str, str], ...]:
        kind = vllm_mlx.ENVIRONMENT if self.kind == "vllm-mlx" else ()
        offline = vllm_mlx.OFFLINE if self.is_vllm_mlx_itself and not fetches else ()
        configured, hosts = self._options.environment, self._options.allowed_hosts
        configured = (*key_variables(self._options, settings), *configured)
        allowed = ((vllm_mlx.ALLOWED_HOSTS, ",".join(hosts)),) if kind and hosts else ()
        additional = (kind, offline, configured, settings.environment, allowed)
        environment = scrub(self._inherited, *additional, with_secrets=fetches)
        if offline and is_offline(dict(environment)):
            environment = without_secrets(environment)
        return with_absolute_paths(environment, self._inherited)

    async def version(self) -> str:
        """Return the version of the program that would be started now; empty if not known."""
        with suppress(RuntimeUnavailable):
            program = self._search()
            if program is not None and self.is_vllm_mlx_itself:
                return (await self._versions.of(program.path)).own or ""
        return ""

    async def interpreter(self) -> str:
        """Return the Python interpreter that runs vllm-mlx. Raises RuntimeUnavailable."""
        program = await self._usable_program()
        found = interpreter_of(program.path)
        if found is None:
            raise RuntimeUnavailable(
                f"'{program.path}' is no script of a Python environment, so nothing can be "
                "downloaded with it. Download the model by hand."
            )
        return found

    async def describe(self) -> RuntimeDescription:
        """Describe the program that would be started now, without installing anything.

        Raises RuntimeUnavailable if `prepare` would raise it, or would install the program.
        """
        program = await self._usable_program(installs=False)
        versions = await self._versions_of(program)
        return await asyncio.to_thread(describe, program, self._options, versions)

    async def use_costs(self, settings: Settings) -> list[tuple[str, str]]:
        """Return `runtime_report.use_costs`; empty while there is no program."""
        with suppress(RuntimeUnavailable):
            program = await self._usable_program(installs=False)
            versions = await self._versions_of(program)
            return list(use_costs(self._options, settings, versions.own))
        return []

    def is_found(self) -> bool:
        """Return whether vllm-mlx is on this machine, usable or not.

        Raises RuntimeUnavailable for another configured program that is missing or not executable.
        """
        return self._search() is not None

    async def _usable_program(self, *, installs: bool = True) -> Program:
        """Return the checked program, installing it if necessary and permitted.

        Raises RuntimeUnavailable.
        """
        program = self._search()
        if program is None:
            if not (installs and self._options.provision):
                raise _not_found()
            arguments = (self._progress,) if self._progress else ()
            path = await self._provisioner.install(*arguments)
            program = Program(path, "just installed")
        self._check_writers(program)
        await self._check_version(program)
        return program

    def _check_writers(self, program: Program) -> None:
        check_writers(program, self._options.command[1:], self._options.trusted_directories)

    def _search(self) -> Program | None:
        """Return the program; None if vllm-mlx is in none of its usual places.

        Raises RuntimeUnavailable for another program, as `search_configured` does.
        """
        name = self._options.command[0]
        if name == vllm_mlx.PROGRAM:
            return search_default(self._provisioner.installed)
        return search_configured(name)

    async def _versions_of(self, program: Program) -> Versions:
        """Return the versions of a vllm-mlx and its packages; none of them for another program."""
        return await self._versions.of(program.path) if self.is_vllm_mlx_itself else Versions()

    async def _check_version(self, program: Program) -> None:
        """Raise RuntimeUnavailable for a vllm-mlx that is too old."""
        if not self.is_vllm_mlx_itself:
            return
        check_version(program, (await self._versions.of(program.path)).own)

    async def argument_flaws(self, settings: Settings) -> list[str]:
        """Return the flaws of the settings' arguments, by the options that the program lists."""
        if not (self.is_vllm_mlx_itself and settings.arguments):
            return list(self._refusals(settings))
        try:
            program = await self._usable_program(installs=False)
        except RuntimeUnavailable:
            return list(argument_flaws(settings.arguments, {}))
        return list(
            argument_flaws(settings.arguments, await self._program_options.of(program.path))
        )

    def _refusals(self, settings: Settings) -> Iterator[str]:
        """Return why arguments of a known program other than vllm-mlx are refused."""
        described = self._options.description
        return described.refusals(settings.arguments) if described else iter(())

    async def _check_arguments(self, program: Program, model: str, settings: Settings) -> None:
        itself = self.is_vllm_mlx_itself
        options = await self._program_options.of(program.path) if itself else {}
        flaw = argument_flaw(settings.arguments, options) if options else None
        if not itself:
            flaw = next(self._refusals(settings), None)
        if flaw is not None:
            raise RuntimeUnavailable(
                f"{model!r} cannot be started with its arguments: {flaw}. Correct "
                f"{settings.arguments_section} arguments in the configuration, and reload.",
                model=model,
            )
        if settings.warm_prompts and options and vllm_mlx.WARM_PROMPTS not in options:
            raise RuntimeUnavailable(
                f"{model!r} cannot be started with its warm_prompts: this vllm-mlx has no option "
                f"{vllm_mlx.WARM_PROMPTS}. Install a newer one, or remove warm_prompts from the "
                "configuration, and reload.",
                model=model,
            )

    def _plan(
        self,
        program: Program,
        version: str | None,
        model: str,
        settings: Settings,
        prompt_cache: PromptCache | None,
        key: str,
        *,
        keeps: bool,
    ) -> LaunchPlan:
        """Return the plan of a start.

        key: the key of the server; empty: none. keeps: whether it is to keep its computed prompts.
        """
        options, runtime_model = self._options, settings.runtime_model
        port: int | None = None
        files: tuple[tuple[str, str], ...] = ()
        command = (str(program.path), *options.command[1:], *settings.arguments)
        if self.kind == "vllm-mlx":
            command += (vllm_mlx.TRUST,) if settings.trust_remote_code else ()
            served = options.served_model_name or "{model}"
            prompt_bytes = settings.prompt_cache if keeps else 0
            # Every version from MINIMUM_VERSION on has the option for metrics; a wrapper may not.
            command = with_options(
                command, served, metrics=version is not None, prompt_bytes=prompt_bytes
            )
            command, files = with_warm_prompts(command, settings.warm_prompts)
            served = option_value(command, vllm_mlx.SERVED_MODEL_NAME) or served
            port_argument = vllm_mlx.ANY_PORT
        else:
            command, served = other_command(options, program.path, settings)
            port = self._ports.reserve() if takes_port(command) else None
            port_argument = str(port)  # without {port} in the template it is not used
        nonce = secrets.token_hex(16)
        ready_path, ready_body = options.ready_request
        key_file = str(self._work_dirs / nonce / FILE_NAME)
        names = Names(model, runtime_model, port_argument, key_file, options.bound_host)
        argv = fill(command, names)
        return LaunchPlan(
            argv=argv,
            environment=with_key(self.environment(settings), key),
            port=port,
            host=options.host,
            health_path=options.effective_health_path,
            served_model_name=fill((served,), names)[0],
            nonce=nonce,
            kind=self.kind,
            use=use_of_command(options, command, version),
            drains=options.effective_drains,
            ready_path=ready_path,
            ready_body=fill_json(ready_body, names),
            prompt_cache=prompt_cache,
            files=(*files, *key_files(command, key)),
            api_key=key,
            embedding_model_name=embedding_model_name(self.kind, argv),
        )


def _not_found() -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"vllm-mlx was not found beside the running interpreter, on PATH or in the data "
        f"directory; run '{INSTALL}', or set [runtime] command."
    )
