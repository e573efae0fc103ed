"""Leading: with which epoch this front places, and whether it may."""

from dataclasses import replace

from pool_service.access.fence import MAX_EPOCH
from pool_service.core.errors import PoolError, PoolUnreachable
from pool_service.fleet.core.commands import TellLead
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.sight import is_cut_off
from pool_service.fleet.core.state import FleetState
from pool_service.fleet.core.values import Lead, Presence, Report

RETRY_AFTER_S = 1.0
"""Seconds after which a caller may try again that finds no leader, or a front that is cut off."""


class Leading:
    """Chooses the epoch, and tells members of it."""

    def __init__(self, state: FleetState) -> None:
        self._state = state

    def on_lead_changed(self, lead: Lead) -> bool:
        """Lead from now on, or follow; return whether more has changed than until when."""
        state = self._state
        before, state.lead = state.lead, lead
        if replace(before, until=lead.until) == lead:
            self.choose_epoch()
            return False
        state.epoch, state.rival, state.rival_at = 0, "", float("-inf")
        state.touch_all()
        self.choose_epoch()
        return True

    def choose_epoch(self) -> None:
        """Choose the epoch of this front once every member has told which it has seen.

        Above all that members have seen: those of an engine that has lost its data begin anew, and
        without an engine there are no others. Never below one that it had before. None once the
        lead is over: it would be above that of the next leader.
        """
        state = self._state
        if not state.lead.leads or self._is_over or state.epoch or not state.is_settled:
            return
        state.epoch_at = state.now
        self._lead_with(state.lead.epoch)

    def on_report(self, member: Member) -> None:
        """Note the epoch that a member has seen; tell it this front's if it is another one.

        Not one above which no other member would obey: that member alone is out of the fleet.
        """
        state, report = self._state, member.report
        assert report is not None
        if report.epoch >= MAX_EPOCH:
            return
        state.told_epoch = max(state.told_epoch, report.epoch)
        if report.front == state.name:
            member.acknowledged = report.epoch
        if not state.epoch or self._is_over:
            return
        is_above = report.epoch > state.epoch
        if state.rival or is_above or (report.front != state.name and report.epoch == state.epoch):
            self._meet(report)
        if not state.rival and member.acknowledged != state.epoch:
            state.give(TellLead(member.host))

    def flaw(self) -> PoolError | None:
        """Return why this front may not place anything now; None if it may."""
        state = self._state
        if state.rival:
            return PoolUnreachable(
                "another front has begun to lead the members of this one, which obey this one no "
                "more. Call the other front, or end it.",
                retry_after=RETRY_AFTER_S,
            )
        if self._is_over:
            return PoolUnreachable(
                "this front has not heard for so long that it leads that another may lead by now: "
                "it starts nothing until it hears. Look at what front.leader names.",
                retry_after=RETRY_AFTER_S,
            )
        vanished = [one.vanished_at for one in state.unseen.values() if one.vanished_at is not None]
        known = len(state.known)
        if is_cut_off(vanished, known, state.lost_after):
            return PoolUnreachable(
                f"{len(vanished)} of {known} members have vanished at once, so this front may be "
                "cut off from them: it starts nothing until it sees enough of them again. Look at "
                "the network; or take members that are gone out of the configuration, and reload "
                "it.",
                retry_after=RETRY_AFTER_S,
            )
        return None

    @property
    def _is_over(self) -> bool:
        """Whether the time has passed until which this front may lead: another one may by now."""
        return self._state.now >= self._state.lead.until

    def _meet(self, report: Report) -> None:
        """Yield to another front that leads since this one does, or raise the epoch above it.

        With an engine nobody else leads, so what the member has seen is of an earlier leader.
        """
        state = self._state
        is_other = report.front != state.name and report.epoch >= state.epoch
        if is_other and not state.lead.epoch and report.front_heard is not None:
            heard_at = state.now - report.front_heard
            if heard_at > max(state.epoch_at, state.rival_at):
                state.rival, state.rival_at = report.front, heard_at
        # Of several members, some have not heard the rival for long: the last word counts.
        if state.rival and state.now - state.rival_at <= state.lost_after:
            return
        state.rival = ""
        self._lead_with(0)

    def _lead_with(self, least: int) -> None:
        """Lead with an epoch above those of others, and not below one that it had before."""
        state = self._state
        state.epoch = max(least, self._highest_of_others() + 1, state.own_epoch)
        state.own_epoch = state.epoch
        self._tell_all()

    def _highest_of_others(self) -> int:
        """Return the highest epoch that a member has seen, besides those of this front.

        One above its own is of another leader, though this front may have brought it as a follower.
        """
        state = self._state
        reports = [one.report for one in state.members.values() if one.report is not None]
        others = [one for one in reports if one.front != state.name or one.epoch > state.own_epoch]
        return max((one.epoch for one in others if one.epoch < MAX_EPOCH), default=0)

    def _tell_all(self) -> None:
        for member in self._state.members.values():
            if member.presence is Presence.PRESENT and member.acknowledged != self._state.epoch:
                self._state.give(TellLead(member.host))
