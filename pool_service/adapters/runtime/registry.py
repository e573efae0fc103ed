"""The runtimes of this machine, by their names: which one serves a model, and what it needs."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from pool_service.adapters.models.disk_access import DiskLooks
from pool_service.adapters.models.download import Downloader
from pool_service.adapters.models.estimates import (
    GUESS,
    ExpectationBook,
    ExpectationKey,
    estimated,
)
from pool_service.adapters.models.files import ModelFiles, hub_cache, locate
from pool_service.adapters.models.hub_cache import cached_models
from pool_service.adapters.models.loaded import Loaded, found
from pool_service.adapters.runtime import diagnosis, vllm_mlx
from pool_service.adapters.runtime.diagnosis import Diagnose, diagnose_exit
from pool_service.adapters.runtime.launch_plan import check_directory, check_names
from pool_service.adapters.runtime.program import CommandRuntime, RuntimeOptions
from pool_service.adapters.runtime.provision import Progress
from pool_service.adapters.standby.process import Recipe
from pool_service.adapters.system.environment import is_offline
from pool_service.core.errors import PoolError, RuntimeUnavailable
from pool_service.core.types import Estimate, EstimateSource, LaunchPlan, Settings
from pool_service.ports import FetchProgress

_log = structlog.get_logger(__name__)

_DIAGNOSES: Mapping[str, Diagnose] = {
    "vllm-mlx": vllm_mlx.diagnose,
    "plain": diagnosis.diagnose,
}


def diagnose_of(kind: str) -> Diagnose:
    """Tells what the end of a process of this kind of runtime means."""
    return _DIAGNOSES.get(kind, diagnose_exit)


class Runtimes:
    """Implements the port `Runtime`.

    options: by the names of the runtimes, which is empty for the default one; state_dir: where
    what earlier runs needed is remembered; progress: of an installation at first need.
    """

    def __init__(
        self,
        options: Mapping[str, RuntimeOptions],
        state_dir: Path,
        *,
        progress: Progress | None = None,
    ) -> None:
        self._progress = progress
        self._book = ExpectationBook(state_dir)
        self._downloader = Downloader()
        self._looks = DiskLooks()
        self._options: Mapping[str, RuntimeOptions] = {}
        self._runtimes: dict[str, CommandRuntime] = {}
        self._versions: dict[str, str] = {}
        self._unfiled: dict[Settings, int] = {}
        self.replace(options)

    def replace(self, options: Mapping[str, RuntimeOptions]) -> None:
        """From now on these; what is the same keeps what is known of it."""
        kept = {name for name, one in options.items() if self._options.get(name) == one}
        self._runtimes = {
            name: self._runtimes[name]
            if name in kept
            else CommandRuntime(one, progress=self._progress)
            for name, one in options.items()
        }
        self._options = options

    async def estimate(self, model: str, settings: Settings) -> Estimate:
        """Tell what a server will need of memory, and whether it can be loaded; see the port."""
        check_names(model, settings.runtime_model)
        runtime = self._runtimes[settings.runtime]
        is_vllm_mlx = runtime.kind == "vllm-mlx"
        environment = dict(runtime.environment(settings))

        def look() -> Loaded:
            if is_vllm_mlx:
                check_directory(model, settings.runtime_model)
            return self._checked(model, settings, environment, checks_code=is_vllm_mlx)

        loaded = await self._looks.run((model, settings), model, settings.runtime_model, look)
        files = loaded.files
        expected, source = await self._expected(runtime, settings, loaded)
        on_disk = _on_disk(settings, files) if runtime.loads_from_disk else None
        meant = loaded.meant if on_disk is False else ()
        return Estimate(expected, source, on_disk, meant, loaded.disk_bytes)

    async def cached(self) -> tuple[str, ...]:
        """Return the ids of the models in the cache of the hub; see the port."""
        try:
            environment = dict(self._runtimes[""].environment(Settings(runtime_model="")))
            look = partial(cached_models, environment)
            return await self._looks.run("", "", str(hub_cache(environment)), look)
        except (PoolError, OSError, ValueError) as error:
            _log.warning("the cache of the model hub cannot be looked at", why=str(error))
            return ()

    async def fetch(self, model: str, settings: Settings, progress: FetchProgress) -> None:
        """Download what is missing; a runtime of another kind does so itself. See the port."""
        runtime = self._runtimes[settings.runtime]
        check_names(model, settings.runtime_model)
        if not runtime.loads_from_disk:
            return
        # Of a path there is nothing to download, but it may lead nowhere.
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
        """Remember what a server with these settings needed; see the port."""
        self._unfiled[settings] = max(needed, self._unfiled.get(settings, 0))
        self._file()

    async def prepare(self, model: str, settings: Settings) -> LaunchPlan:
        """Find (or provision) the program and write down how to start it; see the port."""
        runtime = self._runtimes[settings.runtime]
        # Also of a successor, for which no estimate was asked, and as it is now.
        environment = dict(runtime.environment(settings))
        await asyncio.to_thread(self._checked, model, settings, environment, checks_code=False)
        return await runtime.prepare(model, settings)

    async def recipe(self, settings: Settings) -> Recipe | None:
        """Return what decides which servers with such settings a process can become later.

        None: there is no such process of their runtime. Raises RuntimeUnavailable.
        """
        runtime = self._runtimes[settings.runtime]
        if not runtime.loads_from_disk:
            return None
        found = await runtime.describe()
        self._versions[settings.runtime] = found.version or ""
        self._file()
        return Recipe(found.path, runtime.environment(settings))

    async def default_program(self) -> str:
        """Return in words which program serves models that name no runtime.

        Raises RuntimeUnavailable where there is none, and none is to be installed.
        """
        options = self._options[""]
        try:
            return str(await self._runtimes[""].describe())
        except RuntimeUnavailable:
            if options.provision and not self._runtimes[""].is_found():
                return f"none yet; vllm-mlx is installed into {options.data_dir} at the first need"
            raise

    async def program_flaw(self, name: str) -> tuple[str, bool] | None:
        """Return why no server of a runtime could be started, and whether its program is there.

        None: it could, or the program is installed at the first need.
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
        """Return what is wrong with the arguments of settings, as far as their runtime tells."""
        return await self._runtimes[settings.runtime].argument_flaws(settings)

    async def is_on_disk(self, name: str, settings: Settings) -> bool:
        """Return whether a server with such settings would find files under this name."""
        environment = dict(self._runtimes[settings.runtime].environment(settings))
        look = partial(locate, name, environment)
        return await self._looks.run((name, settings), name, name, look) is not None

    def _file(self) -> None:
        """Learn what is filed by a version that was not known before, as of what was adopted."""
        for settings, needed in list(self._unfiled.items()):
            version = self._versions.get(settings.runtime)
            if version is not None:
                del self._unfiled[settings]
                self._book.record_usage(_key(settings, version), needed)

    def _checked(
        self,
        model: str,
        settings: Settings,
        environment: Mapping[str, str],
        *,
        checks_code: bool,
    ) -> Loaded:
        """Return all files that its server loads. Blocking; raises what `check` raises."""
        runtime = self._runtimes[settings.runtime]
        further, commanding = runtime.further_models(settings), runtime.commanding_file(settings)
        loaded = found(settings.runtime_model, further, environment, commanding)
        loaded.check_writers(model, runtime.trusted_directories)
        if checks_code and not settings.trust_remote_code:
            loaded.check_code(model)
        if is_offline(environment):
            loaded.check_on_disk(model)
        return loaded

    async def _expected(
        self, runtime: CommandRuntime, settings: Settings, loaded: Loaded
    ) -> tuple[int, EstimateSource]:
        """Return what it will need: what is declared, unless more was seen of this very model."""
        declared = settings.expected_memory
        version = self._versions[settings.runtime] = await runtime.version()
        self._file()
        observed = self._book.needed(_key(settings, version))
        if declared is not None and declared >= (observed or 0):
            return declared, EstimateSource.DECLARED
        if observed is not None:
            return observed, EstimateSource.OBSERVED
        if loaded.files is not None and loaded.files.weights:
            return estimated(loaded.weights), EstimateSource.WEIGHTS
        return GUESS, EstimateSource.UNKNOWN


def _key(settings: Settings, version: str) -> ExpectationKey:
    return ExpectationKey(settings.runtime, version, settings.runtime_model, settings.arguments)


def _on_disk(settings: Settings, files: ModelFiles | None) -> bool:
    """Whether there is nothing to download: of a path there never is."""
    if Path(settings.runtime_model).is_absolute():
        return True
    return files is not None and files.complete
