"""Implementation of the port `Runtime`: the configured runtimes, by their names."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from pool_service.adapters.models.disk_access import DiskReads
from pool_service.adapters.models.download import Downloader
from pool_service.adapters.models.estimates import (
    GUESS_BYTES,
    UsageKey,
    UsageStore,
    estimate_bytes,
)
from pool_service.adapters.models.files import ModelFiles, hub_cache, locate
from pool_service.adapters.models.hub_cache import cached_models
from pool_service.adapters.models.loaded_models import LoadedModels, find_loaded_models
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.prompts.prompt_key import prompt_key
from pool_service.adapters.prompts.prompt_store import PromptStore
from pool_service.adapters.runtime import diagnosis, vllm_mlx
from pool_service.adapters.runtime.diagnosis import Diagnose, diagnose_exit
from pool_service.adapters.runtime.launch_plan import check_directory, check_names
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.provision import Progress
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import Versions
from pool_service.adapters.sandbox.sandboxing import Sandboxing, Subject
from pool_service.adapters.standby.process import StandbySpec
from pool_service.adapters.system.server_environment import is_offline
from pool_service.core.effective_settings import SandboxState
from pool_service.core.errors import ModelRejected, PoolError, RuntimeUnavailable
from pool_service.core.types import (
    Estimate,
    EstimateSource,
    LaunchPlan,
    PromptCache,
    Settings,
)
from pool_service.ports import FetchProgress

_log = structlog.get_logger(__name__)

_DIAGNOSES: Mapping[str, Diagnose] = {
    "vllm-mlx": vllm_mlx.diagnose,
    "plain": diagnosis.diagnose,
}
"""The functions that explain exits, by the kind of the runtime (`launch_plan.Kind`)."""


def diagnose_of(kind: str) -> Diagnose:
    """Return the function that explains exits of processes of this kind of runtime.

    A kind that this version does not know, as a record of another version may have, gets
    `diagnose_exit`.
    """
    return _DIAGNOSES.get(kind, diagnose_exit)


class Runtimes:
    """Implements the port `Runtime`.

    options: by the runtime's name, which is "" for the default runtime.
    state_dir: the directory in which the memory needed by earlier runs is remembered, and which
        has the working directories of servers.
    progress: receives the progress of an installation at first need.
    prompts: the store of computed prompts; None: they are not kept.
    sandboxing: decides which servers are confined; None: by what this system can do.
    """

    def __init__(
        self,
        options: Mapping[str, RuntimeOptions],
        state_dir: Path,
        *,
        progress: Progress | None = None,
        prompts: PromptStore | None = None,
        sandboxing: Sandboxing | None = None,
    ) -> None:
        self._progress = progress
        self._prompts = prompts
        self._work_dirs = work_dirs(state_dir)
        self._sandboxing = sandboxing or Sandboxing(state_dir)
        self._usage = UsageStore(state_dir)
        self._downloader = Downloader()
        self._disk_reads = DiskReads()
        self._options: Mapping[str, RuntimeOptions] = {}
        self._runtimes: dict[str, CommandRuntime] = {}
        self._versions: dict[str, str] = {}
        # The bytes that servers needed, until the version of their runtime is known.
        self._pending_usage: dict[Settings, int] = {}
        self.replace(options)

    def replace(self, options: Mapping[str, RuntimeOptions]) -> None:
        """Replace the runtimes; those with equal options keep what they have found out."""
        kept = {name for name, one in options.items() if _is_same(self._options.get(name), one)}
        self._runtimes = {
            name: self._runtimes[name]
            if name in kept
            else CommandRuntime(one, progress=self._progress, work_dirs=self._work_dirs)
            for name, one in options.items()
        }
        self._options = options

    async def estimate(self, model: str, settings: Settings) -> Estimate:
        """Estimate the memory of a server, and check whether it can be loaded; see the port."""
        check_names(model, settings.runtime_model)
        runtime = self._runtimes[settings.runtime]
        loads_as_vllm_mlx = runtime.kind == "vllm-mlx"
        environment = dict(runtime.environment(settings))

        def read() -> LoadedModels:
            if loads_as_vllm_mlx:
                check_directory(model, settings.runtime_model)
            return self._check_models(model, settings, environment, checks_code=loads_as_vllm_mlx)

        loaded = await self._disk_reads.run((model, settings), model, settings.runtime_model, read)
        files = loaded.files
        expected, source = await self._expected_bytes(runtime, settings, loaded)
        load_s = self._usage.load_seconds(_key(settings, self._versions[settings.runtime]))
        on_disk = _on_disk(settings, files) if runtime.is_vllm_mlx_itself else None
        similar = loaded.similar if on_disk is False else ()
        return Estimate(expected, source, on_disk, similar, loaded.disk_bytes, load_s)

    async def cached(self) -> tuple[str, ...]:
        """Return the ids of the models in the Hub's cache; see the port."""
        try:
            environment = dict(self._runtimes[""].environment(Settings(runtime_model="")))
            read = partial(cached_models, environment)
            return await self._disk_reads.run("", "", str(hub_cache(environment)), read)
        except (PoolError, OSError, ValueError) as error:
            _log.warning("cannot read the cache of the model hub", why=str(error))
            return ()

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        """Download a model's missing files, as vllm-mlx here never downloads; see the port.

        Does nothing for another program, which downloads by itself.
        """
        runtime = self._runtimes[settings.runtime]
        check_names(model, settings.runtime_model)
        if not runtime.is_vllm_mlx_itself:
            return
        # A path has nothing to download, but it may lead nowhere.
        await asyncio.to_thread(check_directory, model, settings.runtime_model)
        try:
            interpreter = await runtime.interpreter()
        except PoolError as error:
            raise replace(error, model=model) from error
        environment = runtime.environment(settings, fetches=True)
        await self._downloader.fetch(
            interpreter, model, settings.runtime_model, environment, progress
        )

    def record_usage(self, settings: Settings, needed: int) -> None:
        """Record the bytes that a server with these settings needed; see the port."""
        self._pending_usage[settings] = max(needed, self._pending_usage.get(settings, 0))
        self._record_pending()

    def record_load(self, settings: Settings, seconds: float) -> None:
        """Record how long a server with these settings took to load; see the port.

        Not recorded while the version of the runtime is not known, as after an adoption.
        """
        version = self._versions.get(settings.runtime)
        if version is not None:
            self._usage.record_load(_key(settings, version), seconds)

    def close(self) -> None:
        """Wait until all that was recorded is written. Blocking."""
        self._usage.close()

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find or install the program, and return the plan of one start; see the port."""
        runtime = self._runtimes[settings.runtime]
        # Checked again: the files may have changed since the estimate, and no estimate precedes the
        # start of a successor.
        environment = dict(runtime.environment(settings))
        loaded = await asyncio.to_thread(
            self._check_models, model, settings, environment, checks_code=False
        )
        find_prompts = partial(self._find_prompts, model, settings, loaded)
        plan = await runtime.prepare(model, settings, find_prompts)
        subject = self._subject(settings, Path(plan.argv[0]), plan.environment)
        try:
            sandbox = await self._sandboxing.of_server(model, subject, loaded.paths, plan.port)
        except OSError as error:
            why = f"its files cannot be listed ({error.strerror})"
            raise ModelRejected(f"{model!r} is not loaded: {why}.", model=model) from error
        mapped = loaded.weight_bytes if self._maps_weights(settings) else 0
        return replace(plan, sandbox=sandbox, mapped_bytes=mapped)

    def _maps_weights(self, settings: Settings) -> bool:
        """Return whether a server's weights are not in the memory that it is seen to take."""
        described = self._options[settings.runtime].description
        return described is not None and described.maps_weights

    async def sandbox_state(self, settings: Settings) -> SandboxState:
        """Return whether a server with these settings is confined; see the port."""
        runtime, name = self._runtimes[settings.runtime], settings.runtime
        is_default = self._options[name].sandbox == "auto"
        section = "" if is_default else f"[runtimes.{name}]" if name else "[runtime]"
        try:
            program = Path((await runtime.describe()).path)
            subject = self._subject(settings, program, runtime.environment(settings))
        except RuntimeUnavailable:
            return SandboxState("there is no program yet", section)
        return SandboxState(await self._sandboxing.obstacle(subject), section)

    def _subject(
        self, settings: Settings, program: Path, environment: tuple[tuple[str, str], ...]
    ) -> Subject:
        """Return what decides about the sandbox of servers with these settings."""
        options = self._options[settings.runtime]
        has_tools = self._runtimes[settings.runtime].tools_file(settings) is not None
        arguments = (*options.command[1:], *settings.arguments)
        return Subject(options, program, arguments, environment, has_tools)

    async def _find_prompts(
        self, model: str, settings: Settings, loaded: LoadedModels, versions: Versions | None
    ) -> PromptCache | None:
        """Return where a server keeps its computed prompts; see `FindPrompts`."""
        prompts = self._prompts
        if prompts is None or loaded.files is None:
            return None

        def find() -> PromptCache | None:
            if versions is None:
                prompts.forget(model)
                return None
            key = prompt_key(settings, versions, loaded.paths)
            return prompts.find(model, key, settings.prompt_cache)

        try:
            return await asyncio.to_thread(find)
        except OSError as error:
            _log.warning(
                "a server keeps no prompts, as they cannot be looked up",
                model=model,
                error=str(error),
            )
            return None

    async def standby_spec(self, settings: Settings) -> StandbySpec | None:
        """Return the spec of the standbys that can become servers with these settings.

        None if the runtime has no standbys. Raises RuntimeUnavailable.
        """
        runtime = self._runtimes[settings.runtime]
        if not runtime.is_vllm_mlx_itself:
            return None
        found = await runtime.describe()
        self._versions[settings.runtime] = found.version or ""
        self._record_pending()
        environment = runtime.environment(settings)
        subject = self._subject(settings, Path(found.path), environment)
        return StandbySpec(found.path, environment, await self._sandboxing.of_standbys(subject))

    async def default_program(self) -> str:
        """Return the description of the default runtime's program.

        Raises RuntimeUnavailable if there is no program, and none is to be installed.
        """
        options = self._options[""]
        try:
            found = await self._runtimes[""].describe()
            for flaw in found.flaws:
                _log.warning("a flaw of the runtime", why=flaw)
            return str(found)
        except RuntimeUnavailable:
            if options.provision and not self._runtimes[""].is_found():
                return f"none yet; vllm-mlx is installed into {options.data_dir} at the first need"
            raise

    async def program_flaw(self, name: str) -> tuple[str, bool] | None:
        """Return why a runtime cannot start servers, and whether its program is there.

        None if the runtime can, or if its program is installed at the first need.
        name: the runtime's.
        """
        runtime, options = self._runtimes[name], self._options[name]
        is_found = False
        try:
            is_found = runtime.is_found()
            if is_found or not options.provision:
                await runtime.describe()
        except RuntimeUnavailable as error:
            return str(error), is_found
        return None

    async def argument_flaws(self, settings: Settings) -> list[str]:
        """Return the flaws of the settings' arguments, by the options that the runtime lists."""
        return await self._runtimes[settings.runtime].argument_flaws(settings)

    async def use_costs(self, settings: Settings) -> list[tuple[str, str]]:
        """Return the keys that make the runtime leave requests out of its counts, with the costs.

        See `runtime_report.use_costs`.
        """
        return await self._runtimes[settings.runtime].use_costs(settings)

    async def is_on_disk(self, model: str, settings: Settings) -> bool:
        """Return whether a server with these settings would find files of `model`."""
        environment = dict(self._runtimes[settings.runtime].environment(settings))
        read = partial(locate, model, environment)
        return await self._disk_reads.run((model, settings), model, model, read) is not None

    def _record_pending(self) -> None:
        """Write down the pending usage of runtimes whose version is known now.

        The version is not known yet while a service has only adopted servers.
        """
        for settings, needed in list(self._pending_usage.items()):
            version = self._versions.get(settings.runtime)
            if version is not None:
                del self._pending_usage[settings]
                self._usage.record_usage(_key(settings, version), needed)

    def _check_models(
        self,
        model: str,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        checks_code: bool,
    ) -> LoadedModels:
        """Return the checked files of all models that a server loads. Blocking.

        Raises the errors of the `check_` methods of LoadedModels.
        """
        runtime = self._runtimes[settings.runtime]
        further, tools_file = runtime.further_models(settings), runtime.tools_file(settings)
        loaded = find_loaded_models(settings.runtime_model, further, environment, tools_file)
        loaded.check_writers(model, runtime.trusted_directories)
        if checks_code and not settings.trust_remote_code:
            loaded.check_code(model)
        if is_offline(environment):
            loaded.check_further_on_disk(model)
        return loaded

    async def _expected_bytes(
        self, runtime: CommandRuntime, settings: Settings, loaded: LoadedModels
    ) -> tuple[int, EstimateSource]:
        """Return the bytes that a server will need, and the source of that number.

        1. The declared number, unless an earlier run needed more;
        2. the number of an earlier run, but not less than 3 if the program maps its weights;
        3. the estimate by the size of the weights;
        4. a guess.
        """
        declared = settings.expected_memory
        version = self._versions[settings.runtime] = await runtime.version()
        self._record_pending()
        observed = self._usage.needed(_key(settings, version))
        if observed is not None and self._maps_weights(settings):
            observed = max(observed, estimate_bytes(loaded.weight_bytes))
        if declared is not None and declared >= (observed or 0):
            return declared, EstimateSource.DECLARED
        if observed is not None:
            return observed, EstimateSource.OBSERVED
        if loaded.files is not None and loaded.files.weight_bytes:
            prompt_bytes = runtime.prompt_bytes(settings)
            return estimate_bytes(loaded.weight_bytes, prompt_bytes), EstimateSource.WEIGHTS
        return GUESS_BYTES, EstimateSource.UNKNOWN


def _is_same(known: RuntimeOptions | None, given: RuntimeOptions) -> bool:
    """Return whether what is known of a runtime's program holds for other options."""
    return known is not None and replace(known, model_directories=given.model_directories) == given


def _key(settings: Settings, version: str) -> UsageKey:
    return UsageKey(
        settings.runtime,
        version,
        settings.runtime_model,
        settings.arguments,
        settings.prompt_cache,
        settings.warm_prompts,
    )


def _on_disk(settings: Settings, files: ModelFiles | None) -> bool:
    """Return whether there is nothing to download, as always for a path."""
    if Path(settings.runtime_model).is_absolute():
        return True
    return files is not None and files.complete
