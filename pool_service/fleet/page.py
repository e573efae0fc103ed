"""The page of a front: its files, its calls, and the changes that its timeline shows.

Imported only if `[http]` names an address and has the page.
"""

import time
from collections.abc import Sequence

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Presence, SeenServer, ServerState
from pool_service.fleet.fleet import Fleet
from pool_service.fleet.members.link import GrpcLink
from pool_service.fleet.rpc.forwarding import Forwarding
from pool_service.fleet.rpc.page_json import FleetUsage, change_json
from pool_service.fleet.rpc.servicer import FleetServicer
from pool_service.http.exchange import Request, Routes
from pool_service.page.api import add_calls, add_own_call
from pool_service.page.files import add_files
from pool_service.page.recent_changes import Answer, Record
from pool_service.ports import Clock
from pool_service.rpc.json_calls import JsonCalls

Key = tuple[str, int, str]
"""The model, the generation and the host of a server."""


class FrontPage:
    """The page of one front. observe: receives each event of the fleet.

    The changes are those that the front has seen since its start: it keeps nothing on disk.
    """

    def __init__(self) -> None:
        self._changes = Record()
        self._states: dict[Key, ServerState] = {}

    def observe(self, _event: ev.Event, commands: Sequence[cmd.Command]) -> None:
        """Keep the changes of state among the commands that follow an event."""
        lost: dict[str, str] = {}
        for command in commands:
            match command:
                case cmd.NotePresence(host, Presence.LOST, why):
                    lost[host] = f"{host} is lost: {why}"
                case cmd.Publish(server, removed):
                    self._keep(server, lost.get(server.host, ""), removed=removed)
                case _:
                    pass

    def _keep(self, server: SeenServer, why: str, *, removed: bool) -> None:
        key = server.model, server.generation, server.host
        if not removed and self._states.get(key) is server.state:
            return
        at = time.time()
        text = change_json(server, None if removed else server.state, at, why)
        self._changes.keep(text, key, at, is_there=not removed)
        if removed:
            self._states.pop(key, None)
        else:
            self._states[key] = server.state

    def changes_after(self, cursor: str) -> Answer:
        """Return the changes after a cursor, or all of them if it is none of this front's."""
        answer = self._changes.after(cursor)
        if answer.is_whole and answer.since is None:
            answer.since = answer.began_at
        return answer

    def add_to(
        self,
        routes: Routes,
        fleet: Fleet[GrpcLink],
        servicer: FleetServicer,
        forwarding: Forwarding,
        clock: Clock,
    ) -> None:
        """Add the page to the routes of a listener."""
        usage = FleetUsage(fleet, forwarding, clock)

        async def used(request: Request) -> str:
            # The route needs a scope, so its sender is known.
            assert request.principal is not None
            return await usage.as_json(request.principal)

        async def changed(request: Request) -> str:
            return self.changes_after(request.body.decode("utf-8", "replace")).as_json()

        add_files(routes)
        add_calls(routes, JsonCalls(servicer))
        add_own_call(routes, "Usage", used)
        # Why a server has ended can be a line of its log.
        add_own_call(routes, "Changes", changed, quotes_logs=True)
