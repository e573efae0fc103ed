"""The preflight checks: programs, arguments, directories, aliases, models and memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from pool_service.adapters.memory.machine_memory import MachineMemory
from pool_service.adapters.runtime.advertised import address_flaw, binding_doubt, key_doubt
from pool_service.adapters.runtime.registry import Runtimes
from pool_service.config import Config
from pool_service.config.errors import KeyPath, key_name
from pool_service.core.errors import ModelNotOnDisk, PoolError, StartFailed
from pool_service.core.types import Estimate, Settings
from pool_service.preflight.capacity import ListedModels, capacity_problems, missing_files
from pool_service.preflight.directories import directory_problems, missing_model
from pool_service.preflight.problem import Problem

TIME_LIMIT_S = 15.0
"""Time for all checks: a disk may hang, and vllm-mlx takes some seconds to list its options."""

_MAY_PASS = (ModelNotOnDisk, StartFailed)
"""Errors that can pass without a change of the configuration."""


async def find_problems(
    config: Config, runtimes: Runtimes, machine: MachineMemory
) -> tuple[Problem, ...]:
    """Return all problems that keep models of a valid configuration from starting here.

    Starts, installs and downloads nothing. If the checks take longer than TIME_LIMIT_S, a further
    problem says so.

    Args:
        config: the configuration.
        runtimes: the runtimes of this configuration.
        machine: the machine's memory.
    """
    inspection = _Inspection(config, runtimes, machine)
    found: dict[Problem, None] = {}
    try:
        async with asyncio.timeout(TIME_LIMIT_S):
            async for problem in inspection.problems():
                found[problem] = None
    except TimeoutError:
        what = (
            f"not everything could be checked within {TIME_LIMIT_S:g} s; see whether your disks "
            "answer"
        )
        found[Problem(("models",), what, is_error=False)] = None
    return tuple(found)


class _Inspection:
    """One inspection of a configuration."""

    def __init__(self, config: Config, runtimes: Runtimes, machine: MachineMemory) -> None:
        self._config = config
        self._runtimes = runtimes
        self._machine = machine
        self._catalogue = config.catalogue
        self._only_listed = config.service.only_listed
        self._settings: Mapping[str, Settings] = {
            name: self._catalogue.settings_for(name) for name in self._catalogue.models
        }

    async def problems(self) -> AsyncIterator[Problem]:
        """Yield the problems of each check; quick checks come first."""
        if self._only_listed and not self._settings:
            what = "no model is listed, so every request is refused; list models, or remove it"
            yield Problem(("service", "only_listed"), what)
        if flaw := address_flaw(self._config.fleet.advertise):
            yield Problem(("fleet", "advertise"), f"no server can start: {flaw}", is_error=False)
        for problem in await asyncio.to_thread(lambda: list(directory_problems(self._config))):
            yield problem
        for find in (self._of_programs, self._of_arguments, self._of_aliases, self._of_models):
            async for problem in find():
                yield problem

    async def _of_programs(self) -> AsyncIterator[Problem]:
        used = {one.runtime for one in self._settings.values()}
        used |= set() if self._only_listed else {self._catalogue.defaults.runtime}
        for name in sorted(used):
            if (flaw := await self._runtimes.program_flaw(name)) is not None:
                why, is_found = flaw
                # A program that is missing may be installed later.
                yield Problem((*_section_of(name), "command"), why.rstrip("."), is_error=is_found)
            options = self._config.all_runtime_options[name]
            for doubt in filter(None, (binding_doubt(options), key_doubt(options))):
                yield Problem((*_section_of(name), "command"), doubt, is_error=False)

    async def _of_arguments(self) -> AsyncIterator[Problem]:
        if not self._only_listed:
            for flaw in await self._runtimes.argument_flaws(self._catalogue.defaults):
                yield Problem(("defaults", "arguments"), flaw)
        for name, settings in self._settings.items():
            path = self._path_of(name, settings, "arguments")
            for flaw in await self._runtimes.argument_flaws(settings):
                yield Problem(path, flaw)
            for key, what in await self._runtimes.use_costs(settings):
                yield Problem(self._path_of(name, settings, key), what, is_error=False)

    def _path_of(self, model: str, settings: Settings, key: str) -> KeyPath:
        """Return the key of a model's settings, of the defaults, or of the model's runtime."""
        if key == "command":
            return (*_section_of(settings.runtime), key)
        is_own = key in self._config.models[model].model_fields_set
        return ("models", model, key) if is_own else ("defaults", key)

    async def _of_aliases(self) -> AsyncIterator[Problem]:
        """Yield aliases that hide another model of the same name."""
        loaded_by = {one.runtime_model: name for name, one in self._settings.items()}
        for alias, name in self._catalogue.aliases.items():
            settings, path = self._settings[name], ("models", name, "aliases")
            if alias == settings.runtime_model:
                continue
            if alias in loaded_by:
                other = key_name(("models", loaded_by[alias]))
                what = f"{alias!r} is also what {other} loads; callers that ask for it get {name!r}"
                yield Problem(path, what, is_error=False)
            elif "/" in alias and await self._is_on_disk(alias, settings):
                what = (
                    f"{alias!r} is also a model on this machine, which nobody can ask for by that "
                    "name; choose another alias"
                )
                yield Problem(path, what, is_error=False)

    async def _is_on_disk(self, name: str, settings: Settings) -> bool:
        try:
            return await self._runtimes.is_on_disk(name, settings)
        except PoolError:
            # The check of the model itself reports the problem.
            return False

    async def _of_models(self) -> AsyncIterator[Problem]:
        estimates: dict[str, Estimate] = {}
        for name, settings in self._settings.items():
            is_own = "runtime_model" in self._config.models[name].model_fields_set
            key: KeyPath = ("models", name, "runtime_model") if is_own else ("models", name)
            found = await self._estimated(key, name, settings)
            if isinstance(found, Problem):
                yield found
            else:
                estimates[name] = found
        if (problem := await self._of_unlisted_home()) is not None:
            yield problem
        total = self._machine.total()
        limits = self._config.limits(total, self._machine.default_budget())
        for problem in capacity_problems(ListedModels(self._settings, estimates, limits, total)):
            yield problem

    async def _of_unlisted_home(self) -> Problem | None:
        """Return why the home model cannot start, if it has no section of its own."""
        home = self._catalogue.home
        if not home or home in self._settings:
            return None
        settings = self._catalogue.settings_for(home)
        found = await self._estimated(("service", "home_model"), home, settings)
        return found if isinstance(found, Problem) else missing_files(home, settings, found)

    async def _estimated(self, key: KeyPath, name: str, settings: Settings) -> Estimate | Problem:
        """Return the estimate of a model, or why there is none; key: where the model is named."""
        model_path = Path(settings.runtime_model)
        if model_path.is_absolute():
            missing = await asyncio.to_thread(missing_model, key, model_path)
            if missing is not None:
                return missing
        try:
            return await self._runtimes.estimate(name, settings)
        except PoolError as error:
            what = str(error).rstrip(".")
            return Problem(key, what, is_error=not isinstance(error, _MAY_PASS))


def _section_of(runtime: str) -> KeyPath:
    """Return the path of a runtime's section; runtime: empty: the default one."""
    return ("runtimes", runtime) if runtime else ("runtime",)
