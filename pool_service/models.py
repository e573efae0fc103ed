"""The catalogue for callers: lists models with their estimates, and downloads their files."""

import asyncio
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace

from pool_service.command_tasks import CommandTasks
from pool_service.core.call_error_texts import shutting_down
from pool_service.core.catalogue import Catalogue, Entry
from pool_service.core.errors import PoolError
from pool_service.core.machine import Machine
from pool_service.core.server import Phase
from pool_service.ports import Runtime

_ENDING = frozenset({Phase.STOPPING, Phase.CLEANING_UP, Phase.FAILED})


class Models:
    """Lists and downloads models; independent of servers."""

    def __init__(self, machine: Machine, runtime: Runtime, tasks: CommandTasks) -> None:
        self._machine = machine
        self._runtime = runtime
        self._tasks = tasks
        self._aliases_of: Catalogue | None = None
        self._aliases: Mapping[str, tuple[str, ...]] = {}
        self._version_of = machine.catalogue
        self._process = secrets.token_hex(8)
        self._changes = 0

    @property
    def catalogue_version(self) -> str:
        """A text that is another one after each change of what `page` returns.

        Changes are those of the catalogue, of the runtime models that callers have named, and of
        expected memory, by a measurement or a download; not those of files by other programs.
        """
        if self._version_of is not self._machine.catalogue:
            self._version_of = self._machine.catalogue
            self._changes += 1
        return f"{self._process}.{self._changes}"

    def note_change(self) -> None:
        """Note that the estimates or the named runtime models are about to be others."""
        self._changes += 1

    def is_listed(self, model: str) -> bool:
        """Return whether the configuration lists a model."""
        return self._machine.is_listed(model)

    def resolve(self, name: str) -> str:
        """Return the model that a caller's name means."""
        return self._machine.resolve(name)

    def has_server(self, name: str) -> bool:
        """Return whether a model has a server, or is about to get one."""
        server = self._machine.get(self._machine.resolve(name))
        return server is not None and server.phase is not Phase.FAILED

    def is_served(self, name: str) -> bool:
        """Return whether a model has a server that does not end, or is about to get one."""
        server = self._machine.get(self._machine.resolve(name))
        return server is not None and server.phase not in _ENDING

    def is_pinned(self, model: str) -> bool:
        """Return whether the server of a model is pinned."""
        server = self._machine.get(model)
        return server is not None and server.settings.pinned

    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Return the aliases of each model that is listed, or that an alias stands for."""
        catalogue = self._machine.catalogue
        if self._aliases_of is not catalogue:
            self._aliases_of, self._aliases = catalogue, catalogue.aliases_of_models()
        return self._aliases

    def configured(self, name: str) -> str:
        """Return the runtime model that a model is loaded as if no caller names another."""
        catalogue = self._machine.catalogue
        return catalogue.configured(catalogue.resolve(name))

    async def page(self, after: str | None, size: int, *, found: bool = False) -> list[Entry]:
        """Return at most `size` models in the order of their names, each with its estimate.

        after: begin with the first name that follows this one; None: from the beginning.
        found: also return models that are not listed: in the hub's cache, with a server, or with
        a runtime model that a caller has named.
        """
        cached = await self._runtime.cached() if found else None
        page = self._machine.page_of_models(after, size, cached)
        return list(await asyncio.gather(*map(self._estimated, page)))

    async def _estimated(self, entry: Entry) -> Entry:
        try:
            estimate = await self._runtime.estimate(entry.model, entry.settings)
        except PoolError as error:
            return replace(entry, flaw=entry.flaw or str(error))
        return replace(entry, estimate=estimate)

    async def pull(self, model: str, runtime_model: str = "") -> AsyncGenerator[tuple[int, int]]:
        """Download a model's missing files; yield the bytes on disk and the bytes in total.

        Closing the generator ends the download and keeps the fetched bytes. Raises the PoolErrors
        of `Pull`.
        """
        name, settings = self._machine.settings_for(model, runtime_model)
        if self._tasks.is_closed:
            raise shutting_down(name)
        progress: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

        async def fetch() -> None:
            try:
                await self._runtime.fetch(
                    name, settings, lambda done, total: progress.put_nowait((done, total))
                )
            finally:
                progress.put_nowait(None)

        fetching = asyncio.get_running_loop().create_task(fetch(), name=f"pull {name}")
        self._tasks.keep(fetching)
        try:
            while (reached := await progress.get()) is not None:
                yield reached
            await asyncio.wait((fetching,))
            if fetching.cancelled():
                raise shutting_down(name)
            fetching.result()
            self.note_change()
        finally:
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
