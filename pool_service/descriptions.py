"""Descriptions of models: what the machine knows, and an estimate for the next server."""

from collections.abc import Callable
from dataclasses import replace

from pool_service.core.description import Description, InLine
from pool_service.core.effective_settings import sandbox_setting
from pool_service.core.errors import PoolError
from pool_service.core.machine import Machine
from pool_service.core.server import ServerId
from pool_service.ports import World


class Descriptions:
    """Describes models. A look: nothing is used, started or changed."""

    def __init__(self, machine: Machine, world: World, check_recovered: Callable[[], None]) -> None:
        """check_recovered: raises Recovering until the recovery has ended."""
        self._machine = machine
        self._runtime = world.runtime
        self._clock = world.clock
        self._check_recovered = check_recovered

    def order(self) -> tuple[InLine, ...]:
        """Return the servers that may be preempted, the next one first. Raises Recovering."""
        self._check_recovered()
        return self._machine.preemption_order(self._clock.now())

    def busy(self) -> frozenset[ServerId]:
        """Return the servers that were in use when they were last checked. Raises Recovering."""
        self._check_recovered()
        return self._machine.busy()

    async def of(self, name: str) -> Description:
        """Return all that is known about the model of a name or alias, as it is at the end.

        Raises Recovering, ModelUnknown.
        """
        self._check_recovered()
        known = self._machine.describe(name, self._clock.now())
        flaw, estimate = "", None
        try:
            estimate = await self._runtime.estimate(known.model, known.settings)
        except PoolError as error:
            flaw = str(error)
        sandbox = await self._runtime.sandbox_state(known.settings)
        present = self._machine.describe(name, self._clock.now())
        server = next(iter(present.servers), None)
        return replace(
            present,
            estimate=estimate,
            flaw=present.flaw or flaw,
            sources=(*present.sources, sandbox_setting(sandbox, server)),
        )
