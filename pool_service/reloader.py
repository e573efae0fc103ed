"""Reloading: reads the configuration again and applies its changes to the running parts."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog

from pool_service.adapters.memory.machine_memory import MachineMemory
from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.adapters.runtime.registry import Runtimes
from pool_service.adapters.tls.certificate_keeper import CertificateKeeper
from pool_service.client_registry import ClientRegistry
from pool_service.config import Config, ConfigError, ConfigSource, restart_needed
from pool_service.config.errors import KeyPath
from pool_service.core.errors import ConfigInvalid, PoolError
from pool_service.core.results import Reloaded
from pool_service.pool import Pool
from pool_service.preflight import find_problems

log = structlog.get_logger("pool_service.app")


class Reloader:
    """Applies a changed configuration to a running service.

    config: the configuration that the service was started with.
    """

    def __init__(
        self,
        source: ConfigSource,
        config: Config,
        machine: MachineMemory,
        runtimes: Runtimes,
        pool: Pool,
        clients: ClientRegistry,
        groups: ControlGroups,
        certificates: CertificateKeeper | None = None,
    ) -> None:
        self._source = source
        self._started_with = self._config = config
        self._machine = machine
        self._runtimes = runtimes
        self._pool = pool
        self._clients = clients
        self._groups = groups
        self._certificates = certificates
        self._one_at_a_time = asyncio.Lock()

    async def reload(self) -> Reloaded:
        """Read and apply the configuration; return what changed, and the problems found.

        Raises ConfigInvalid, having changed nothing.
        """
        async with self._one_at_a_time:
            try:
                config = await asyncio.to_thread(self._source.load_again)
            except ConfigError as error:
                log.warning("reload refused", why=str(error))
                raise ConfigInvalid(f"{error}. Nothing was changed.") from error
            changed = restart_needed(self._started_with, config)
            config = config.bound_as(self._started_with)
            self._runtimes.replace(config.all_runtime_options)
            result = replace(await self._apply(config), restart_needed=changed)
            problems = (*await self._certificate_problems(), *await self.look_for_problems())
            result = replace(result, problems=problems)
            log.info("reloaded", **{name: getattr(result, name) for name in result.__slots__})
            return result

    async def look_for_problems(self, *reported: KeyPath) -> tuple[str, ...]:
        """Log and return the problems that keep configured models from starting, a line each.

        reported: keys whose problems have been reported already.
        """
        found = await find_problems(self._config, self._runtimes, self._machine)
        lines = []
        for problem in (each for each in found if each.path not in reported):
            key = self._source.name_of(problem.path)
            level = log.error if problem.is_error else log.warning
            level("problem in the configuration", key=key, why=problem.what)
            lines.append(f"{key}: {problem.what}")
        return tuple(lines)

    async def _certificate_problems(self) -> list[str]:
        """Use certificates that have changed now; return what is wrong with them."""
        if self._certificates is None:
            return []
        await self._certificates.refresh()
        return self._certificates.notices

    async def apply_working_sets(self, working_sets: "asyncio.Queue[int]") -> None:
        """Apply each working set size in bytes that Metal recommends, until cancelled."""
        while True:
            working_set = await working_sets.get()
            async with self._one_at_a_time:
                # A pool that is shutting down refuses new limits.
                with suppress(PoolError):
                    if self._machine.use_working_set(working_set):
                        await self._apply(self._config)
                        log.info("Metal's recommended working set applied", bytes=working_set)

    async def _apply(self, config: Config) -> Reloaded:
        limits = config.limits(self._machine.total(), self._machine.default_budget())
        result = await self._pool.reload(config.catalogue, limits)
        await asyncio.to_thread(self._groups.limit, limits.memory_budget)
        self._clients.configure(config)
        self._config = config
        return result
