"""Lookups of one model's server, which start nothing and change nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from pool_service.core.machine import Machine
from pool_service.core.server import Phase, Server, ServerId
from pool_service.endpoints import Endpoints
from pool_service.ports import Probe


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a lookup.

    server: the one that callers get; None if the model has none.
    answers: this very process has answered a check that began after the lookup.
    """

    server: Server | None
    answers: bool = False


class Lookup:
    """Looks servers up, and asks them whether they still serve. Runs on the event loop only.

    check_recovered: raises Recovering until the recovery has ended.
    """

    def __init__(
        self,
        machine: Machine,
        probe: Probe,
        endpoints: Endpoints,
        check_recovered: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._probe = probe
        self._endpoints = endpoints
        self._check_recovered = check_recovered
        self._checks: dict[ServerId, _Check] = {}

    async def get(self, name: str, *, check: bool = False) -> Found:
        """Return the server of the model that a name or alias means, as it is at the end.

        check: ask a READY server first whether it still serves, for at most its probe timeout.
        Raises Recovering.
        """
        self._check_recovered()
        model = self._machine.resolve(name)
        server = self._machine.get(model)
        if not check or server is None or server.phase is not Phase.READY:
            return Found(server)
        if not self._endpoints.check(server):
            await self._endpoints.left_ready(server)
            return Found(self._machine.get(model))
        answers = await self._answers(server)
        present = self._machine.get(model)
        is_same = present is not None and present.id == server.id and present.phase is Phase.READY
        return Found(present, answers and is_same)

    async def _answers(self, server: Server) -> bool:
        """Return whether a READY server answers a check that begins after this call.

        Callers that come while a check runs share the next one, so that a server gets one at a
        time, however many connections to it broke.
        """
        check = self._checks.get(server.id)
        if check is None or check.has_begun:
            check = self._checks[server.id] = _Check(self._probe, server, check)
            check.result.add_done_callback(lambda _: self._forget(server.id))
        return await asyncio.shield(check.result)

    def _forget(self, server_id: ServerId) -> None:
        check = self._checks.get(server_id)
        if check is not None and check.result.done():
            del self._checks[server_id]


class _Check:
    """Checks a server once, when the check before it has ended."""

    def __init__(self, probe: Probe, server: Server, before: "_Check | None") -> None:
        self._probe = probe
        self._server = server
        self._before = before
        self.has_begun = False
        self.result = asyncio.create_task(self._run(), name=f"check {server.model}")

    async def _run(self) -> bool:
        if self._before is not None:
            await asyncio.wait([self._before.result])
            self._before = None
        self.has_begun = True
        server = self._server
        if server.identity is None or server.plan is None:
            return False
        told = await self._probe.check_liveness(
            server.identity,
            server.plan,
            server.endpoint,
            server.log_path,
            server.settings.probe_timeout,
        )
        return told.answered and told.healthy and told.listens
