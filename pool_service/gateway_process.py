"""The process of the gateway beside a service: starts it, and another one whenever it ends.

The gateway ends by itself when this process does, however that ends, as its standard input then
does: so no port stays taken, and none of it is left when the service is killed.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

import structlog

from pool_service.adapters.system.own_program import own_program
from pool_service.address import Address
from pool_service.logging_setup import LogFormat

FIRST_PAUSE_S, MOST_PAUSE_S = 0.25, 60.0
"""The pauses before another start; each is twice the last one."""

HEALTHY_S = 60.0
"""How long a gateway must have run for the pauses to begin anew."""

STOP_TIMEOUT_S = 15.0
"""How long a gateway may take to end: it lets its answers go on for ten seconds."""

log = structlog.get_logger("pool_service.app")


def own_address(bound: Sequence[str]) -> str | None:
    """Return the address at which a process of this user calls the service without a token.

    bound: the addresses of the service. None if there is no such address.
    """
    addresses = [Address.parse(text) for text in bound]
    local = [one for one in addresses if one.path is not None or one.is_local]
    first = min(local, key=lambda one: one.path is None, default=None)
    return first.text if first is not None else None


class GatewayProcess:
    """Keeps a gateway running between `start` and `stop`."""

    def __init__(self, log_format: LogFormat, variables: Mapping[str, str]) -> None:
        """Prepare it. variables: of its environment, beside those of this process."""
        self._log_format = log_format
        self._variables = variables
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    def start(self, address: str) -> None:
        """Start a gateway before the service at an address, now and whenever it has ended."""
        self._keeper = asyncio.create_task(self._keep(address), name="gateway")

    def end(self) -> None:
        """Ask the gateway to end, without waiting for that; see `stop`."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()

    async def stop(self) -> None:
        """End the gateway; kill it if that takes longer than it may."""
        self.end()
        if self._keeper is not None:
            await asyncio.wait((self._keeper,))
        process = self._process
        if process is None or process.returncode is not None:
            return
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _keep(self, address: str) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_S
        while True:
            began = loop.time()
            try:
                self._process = await self._started(address)
                code = await self._process.wait()
            except OSError as error:
                log.error("the gateway could not be started", why=str(error))  # noqa: TRY400
            else:
                log.error("the gateway has ended", exit_code=code)
            if loop.time() - began >= HEALTHY_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(2 * pause, MOST_PAUSE_S)

    async def _started(self, address: str) -> asyncio.subprocess.Process:
        """Start a gateway. Raises OSError."""
        return await asyncio.create_subprocess_exec(
            *own_program("pool_service.cli", "gateway", "--address", address),
            *("--log-format", self._log_format, "--until-stdin-ends"),
            env=os.environ | self._variables,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
