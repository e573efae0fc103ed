"""Asking: finds the seats of one call, as its journey goes on."""

from pool_service.answers import Answers
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Seat

Place = Seat | cmd.OfLeader | cmd.AsRefused


class Asking:
    """Finds the seats of one call: the first, and others when members refuse it or are lost."""

    def __init__(
        self,
        answers: Answers[ev.Event],
        name: str,
        runtime_model: str,
        download: bool | None,  # noqa: FBT001 - of three values
    ) -> None:
        self._answers = answers
        self._name = name
        self._runtime_model = runtime_model
        self._download = download
        self._request_id: int | None = None

    async def seat(self) -> Place:
        """Return where the call goes, or goes now that its member is lost.

        Waits while that is open. Raises PoolError if the model cannot be placed.
        """
        self.leave()
        return await self._ask(
            ev.SeatRequested(self._number(), self._name, self._runtime_model, self._download)
        )

    async def after_refusal(self, host: str, reason: str) -> Place:
        """Return where else the call goes, which a host has refused. Raises as `seat`."""
        return await self._ask(
            ev.SeatRefused(
                self._number(), host, reason, self._name, self._runtime_model, self._download
            )
        )

    def leave(self) -> None:
        """Say that the call has ended, or goes elsewhere."""
        if self._request_id is not None:
            self._answers.feed(ev.SeatLeft(self._request_id))
            self._request_id = None

    def _number(self) -> int:
        """Return the call's id; one that was refused keeps its own."""
        if self._request_id is None:
            self._request_id = self._answers.new_id()
        return self._request_id

    async def _ask(self, event: ev.SeatRequested | ev.SeatRefused) -> Place:
        place: Place = await self._answers.ask(event.request_id, event)
        return place
