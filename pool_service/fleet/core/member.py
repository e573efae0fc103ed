"""A member of the fleet, as the front sees it."""

import math
from dataclasses import dataclass, field

from pool_service.fleet.core.values import CatalogueNames, Presence, Report, SeenServer


@dataclass(slots=True)
class Member:
    """A member, and what it has told. Changed by the front's machine alone.

    lost_after: seconds of silence after which it is lost.
    since: the time since when its presence is as it is.
    vanished_at: when it fell silent; None while it is present, and if it was never seen.
    acknowledged: the epoch that it has heard from this front.
    expected_for: seconds after which it is lost that was never seen: a front that has just started
        waits for it no longer than for others, as all its callers wait with it.
    is_awaited: nothing is placed until it has told its servers, or is lost.
    unlisted_at: when the registry ceased to list it where it is; None: it is listed.
    is_kept: it stays all the same, as the registry seems to have lost most members.
    """

    host: str
    address: str
    lost_after: float
    since: float
    presence: Presence = Presence.EXPECTED
    vanished_at: float | None = None
    why: str = "it has not answered yet"
    report: Report | None = None
    names: CatalogueNames = field(default_factory=CatalogueNames)
    servers: dict[tuple[str, int], SeenServer] = field(default_factory=dict)
    revision: int = 0
    acknowledged: int = -1
    expected_for: float = math.inf
    is_awaited: bool = True
    unlisted_at: float | None = None
    is_kept: bool = False

    @property
    def is_reachable(self) -> bool:
        """Whether callers on other hosts can reach its servers."""
        return self.report is not None and self.report.reachable

    @property
    def is_able(self) -> bool:
        """Whether models may be placed on it, once it has heard who leads."""
        return self.presence is Presence.PRESENT and self.is_reachable

    @property
    def lost_at(self) -> float | None:
        """When it is lost if it stays silent; None if it is present, or lost already."""
        if self.presence is Presence.EXPECTED:
            return self.since + min(self.lost_after, self.expected_for)
        if self.presence is Presence.SUSPECT:
            return self.since + self.lost_after
        return None

    def turn(self, presence: Presence, why: str, now: float) -> None:
        """Note that the front sees it otherwise from now on."""
        if presence is Presence.PRESENT:
            self.vanished_at = None
        elif self.presence is Presence.PRESENT:
            self.vanished_at = now
        self.presence, self.why, self.since = presence, why, now
