"""The fence: refuses calls of a front that another front has followed as the leader.

Each leader of a fleet has a higher epoch than all before. A leader that was paused, or cut off, and
does not know yet that another one leads, has a lower one than the members have seen.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pool_service.core.errors import StaleFleet

MAX_EPOCH = 2**62
"""The highest epoch that a front may show: those of the leaders after it must fit on the wire."""

REWRITE_AFTER_S = 10.0
"""The time after which a write that failed is tried again: each one holds up all calls."""


@dataclass(frozen=True, slots=True)
class Leader:
    """The leader of a fleet, as far as a member has seen it. epoch: 0: there was none yet."""

    epoch: int = 0
    front: str = ""


class Fence:
    """Keeps the highest epoch that a front has shown. Runs on the event loop only.

    A higher epoch is written before its call is obeyed, so that the fence holds over a restart. If
    it cannot be written, the call is obeyed all the same, and the fence holds in memory: else a
    full disk would take the member from its fleet at each change of the leader, whereas a front
    that is out of date is obeyed only if the service restarts before the disk is mended, and that
    front calls before the leader, whose beats come every second.
    """

    def __init__(
        self, last: Leader, write: Callable[[Leader], str], now: Callable[[], float]
    ) -> None:
        """Create the fence.

        last: as it was written last. write: writes the leader, and returns why it could not; empty
        if it could. now: the time in seconds, from any beginning.
        """
        self._leader = last
        self._write = write
        self._now = now
        self._tried_at = 0.0
        self._heard_at: float | None = None
        self.notice = ""
        """Why the leader is not on disk, in a sentence; empty if it is."""

    @property
    def leader(self) -> Leader:
        """The front with the highest epoch."""
        return self._leader

    @property
    def heard_s(self) -> float | None:
        """The seconds since the leader has called; None: not since the service started."""
        return None if self._heard_at is None else self._now() - self._heard_at

    def admit(self, epoch: int, front: str, *, leads: bool = False) -> None:
        """Let a call of a front through, or raise StaleFleet.

        epoch: of the fleet that the front leads or follows; 0 is never refused.
        leads: whether the front says that it is the leader, whose name is then kept.
        """
        if not epoch:
            return
        leader = self._leader
        if epoch < leader.epoch:
            raise StaleFleet(
                f"a front with the epoch {leader.epoch} leads this fleet ({leader.front!r}), and "
                f"this call is of epoch {epoch}. Follow that front, and send its epoch.",
                epoch=leader.epoch,
                front=leader.front,
            )
        if epoch > leader.epoch:
            self._follow(Leader(epoch, front))
            self._keep()
        elif leads and front != leader.front:
            # A follower's call has brought the epoch. Only in memory: a beat tells the name again.
            self._follow(Leader(epoch, front))
        elif self.notice and self._now() >= self._tried_at + REWRITE_AFTER_S:
            self._keep()
        if front == self._leader.front:
            self._heard_at = self._now()

    def _follow(self, leader: Leader) -> None:
        self._leader = leader
        self._heard_at = None

    def _keep(self) -> None:
        self._tried_at = self._now()
        self.notice = self._write(self._leader)
