"""Listing: who the members are, by what knows them and by what the front sees.

1. A list that an operator has written counts as it stands.
2. A registry may lose what it knows. A member that it lists no more, and that answers, stays for as
   long as silence would make it a lost one: it may register itself again.
3. If more than half of the members that are seen are not listed then, it is more likely that the
   registry has lost them than that they are to go. So it stays until it falls silent and is lost,
   or for `UNLISTED_LIMIT_S`.
"""

from collections.abc import Mapping

from pool_service.fleet.core.commands import NoteUnlisted
from pool_service.fleet.core.member import Member
from pool_service.fleet.core.sightings import Sightings
from pool_service.fleet.core.state import FleetState
from pool_service.fleet.core.values import Presence

UNLISTED_LIMIT_S = 3600.0
"""How long members stay that a registry has lost: time for an operator to mend it. An operator who
takes them out so is obeyed then."""


class Listing:
    """Follows the members that are listed, and those that a registry may have lost."""

    def __init__(self, state: FleetState, sightings: Sightings) -> None:
        self._state = state
        self._sightings = sightings

    def on_listed(self, addresses: Mapping[str, str], *, by_registry: bool) -> None:
        """Follow these members, at these addresses, and no others for longer than need be."""
        state = self._state
        state.is_listed, state.listed = True, addresses
        for member in list(state.members.values()):
            if addresses.get(member.host) == member.address:
                member.unlisted_at, member.is_kept = None, False
                state.unlisted.pop(member.host, None)
            elif not by_registry:
                self._sightings.forget(member)
            elif member.unlisted_at is None:
                member.unlisted_at = state.now
                state.unlisted[member.host] = member
        self._forget_unlisted()
        self._follow_listed()
        self._plan()
        self._sightings.settle()

    def review(self) -> None:
        """Forget members that are not listed, if time or what is seen has decided about them."""
        if not self._state.unlisted:
            return
        if self._forget_unlisted():
            self._follow_listed()
            self._sightings.settle()
        self._plan()

    def _forget_unlisted(self) -> bool:
        """Forget the members that need not stay; return whether there were any."""
        state = self._state
        unlisted = list(state.unlisted.values())
        suspect = sum(one.presence is Presence.SUSPECT for one in unlisted)
        present = sum(one.presence is Presence.PRESENT for one in unlisted)
        seen = len(state.members) - len(state.unseen) + suspect
        are_many = 2 * (present + suspect) > seen
        going = [one for one in unlisted if not self._stays(one, are_many=are_many)]
        for member in going:
            self._sightings.forget(member)
        return bool(going)

    def _stays(self, member: Member, *, are_many: bool) -> bool:
        """Return whether a member stays that is not listed. are_many: more than half are not."""
        state = self._state
        if member.presence is Presence.PRESENT:
            is_young = state.now < _since(member) + state.lost_after
            is_old = state.now >= _since(member) + UNLISTED_LIMIT_S
            return is_young or ((member.is_kept or are_many) and not is_old)
        is_elsewhere = member.host in state.listed
        may_come_back = member.presence is Presence.SUSPECT and not is_elsewhere
        return may_come_back and (member.is_kept or are_many)

    def _follow_listed(self) -> None:
        state = self._state
        for host, address in state.listed.items():
            if host not in state.members:
                self._sightings.follow(host, address)

    def _plan(self) -> None:
        """Note which members stay though they are not listed, and when to look at them again."""
        state = self._state
        state.review_at = float("inf")
        for member in state.unlisted.values():
            if member.presence is not Presence.PRESENT:
                continue
            due_at = _since(member) + state.lost_after
            if due_at <= state.now and not member.is_kept:
                member.is_kept = True
                state.give(NoteUnlisted(member.host, member.address))
            review_at = _since(member) + UNLISTED_LIMIT_S if member.is_kept else due_at
            state.review_at = min(state.review_at, review_at)


def _since(member: Member) -> float:
    assert member.unlisted_at is not None
    return member.unlisted_at
