"""Leaves out what an engine lists as a member and cannot be one."""

from collections.abc import AsyncIterator, Mapping

import structlog

from pool_service.config.etcd_section import host_and_port
from pool_service.config.types import Flaw, section_name
from pool_service.fleet.ports import Membership

log = structlog.get_logger("pool_service.fleet")


class CheckedMembership:
    """Knows the members of an engine that have the name of a member and can be called.

    Who writes in a registry may err, and one odd entry must not end the fronts of all others.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._left_out: Mapping[str, str] = {}

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        known: Mapping[str, str] | None = None
        async for listed in self._membership.changes():
            flaws = {entry: flaw for entry in listed.items() if (flaw := _flaw(*entry))}
            members = {name: at for name, at in listed.items() if (name, at) not in flaws}
            self._note({name: flaw for (name, _), flaw in flaws.items()})
            if members != known:
                known = members
                yield members

    def _note(self, left_out: Mapping[str, str]) -> None:
        """Log what was not left out before, or for another reason."""
        before, self._left_out = self._left_out, left_out
        for name, flaw in left_out.items():
            if before.get(name) != flaw:
                log.warning("fleet_member_left_out", name=name, reason=flaw)


def _flaw(name: str, address: str) -> str:
    """Return why an entry is no member; empty if it is one."""
    try:
        section_name(name)
        host_and_port(address)
    except Flaw as flaw:
        return str(flaw)
    return ""
