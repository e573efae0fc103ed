"""Finds and ends what a process left behind: its group, its session, and whatever left both.

A process is taken for a descendant only on proof: it carries the nonce in its environment,
it holds what only a server gets (`tied.py`), or it is in a group or session that is known to be
the same as ever, because it still has a member that was known before or is proven (a number of a
group is not used again while it has one).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil
import structlog

from pool_service.adapters.process.exits import ExitWatch, gone, outlasting_shortage
from pool_service.adapters.process.identity import (
    identity_of,
    is_alive,
    is_session_leader,
    member_pids,
    variable_of,
)
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.process.tied import tied_to
from pool_service.core.types import Identity

_log = structlog.get_logger(__name__)

Drained = Callable[[frozenset[Identity]], Awaitable[frozenset[Identity]]]
"""Waits for what works on requests; from those that were there to those that are left."""

_LOOKS = 2
"""At those of whom nothing is certain: a parent may have ended between its fork and its turn to
be asked, and who was just becoming another program showed no environment."""

_PACE = 0.01


@dataclass(frozen=True, slots=True)
class Family:
    """What is known of a process's descendants: whose, by which nonce, and the proven ones.

    leader_pid: None where it is not known; others: pids that are certainly no descendants; log,
    work_dir: its own, None where they are not known.
    """

    leader_pid: int | None
    nonce: str
    members: frozenset[Identity] = frozenset()
    others: frozenset[int] = frozenset()
    log: Path | None = None
    work_dir: Path | None = None


def members_of(leader: Identity) -> frozenset[Identity]:
    """Return its session without itself, if it runs, or ended and is not reaped; else none."""
    members = group_members(leader.pid)
    # Still it, or its zombie, after the look: the number cannot have been another group's.
    return members if identity_of(leader.pid) == leader else frozenset()


def group_members(leader_pid: int) -> frozenset[Identity]:
    """Return who is in the session of this number, whosever it is, without its leader."""
    return _alive(filter(None, map(identity_of, member_pids(leader_pid))))


def survivors(family: Family) -> frozenset[Identity]:
    """Every proven descendant that is alive. Blocking: some microseconds for each process."""
    found = carriers({family.nonce}, family.others)
    tied = tied_to(family.log, family.work_dir, family.others)
    known = family.members | found.get(family.nonce, frozenset()) | tied
    group = group_members(family.leader_pid) if family.leader_pid else frozenset[Identity]()
    return _alive(known) | (group if group & known else frozenset())


def carriers(
    nonces: Collection[str], others: Collection[int] = ()
) -> dict[str, frozenset[Identity]]:
    """The processes that have one of the nonces in their environment, by the nonce.

    others: pids of which it is known that they have none of them.

    Blocking: some ten microseconds for each process of the machine.
    """
    found: dict[str, frozenset[Identity]] = {}
    settled = {*others, os.getpid()}
    for _ in range(_LOOKS):
        for pid in psutil.pids():
            nonce = None if pid in settled else variable_of(pid, NONCE_VARIABLE)
            if nonce is None:
                continue
            carrier = _carrier(pid, nonce) if nonce in nonces else None
            if carrier:
                found[nonce] = found.get(nonce, frozenset()) | {carrier}
            if carrier or nonce not in nonces:
                settled.add(pid)
    return found


def _carrier(pid: int, nonce: str) -> Identity | None:
    """Who has this pid and the nonce, if it is alive."""
    before = identity_of(pid)
    # The same before and after, so that it was this one's environment that was read.
    if before and variable_of(pid, NONCE_VARIABLE) == nonce and is_alive(before):
        return before
    return None


def leader_among(kin: Collection[Identity]) -> Identity | None:
    """The one from which the others descend: it leads its session, and no parent of it is there.

    A descendant may lead a session as well; it is younger, or its parent is one of them.
    """
    pids = {identity.pid for identity in kin}
    ranked = [
        (_parent_of(identity.pid) in pids, identity.start_time, identity.pid, identity)
        for identity in kin
        if is_session_leader(identity.pid)
    ]
    return min(ranked, key=lambda rank: rank[:3])[3] if ranked else None


async def end_all(
    watch: ExitWatch, family: Family, term_timeout: float, drained: Drained | None = None
) -> bool:
    """Ask each to end, after `term_timeout` seconds end it; return when none is left.

    drained: returns when those that are left are to be asked. True: some had to be killed.
    One that is not ours to signal (it has changed its user) is left alone, and said so.
    """
    left = await look_for(family)
    if left and drained is not None:
        left = await drained(left)
    if not left:
        return False
    _log.info("ending what a process left behind", pids=_pids(left), leader=family.leader_pid)
    asked = frozenset(i for i in left if _signalled(i, signal.SIGTERM, signal.SIGCONT))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(term_timeout):
            await _all_gone(watch, asked)
    untouchable = all_killed = frozenset[Identity]()
    while left := await look_for(family) - untouchable:
        _log.warning("killing what a process left behind", pids=_pids(left))
        killed = frozenset(i for i in left if _signalled(i, signal.SIGKILL))
        untouchable |= left - killed
        all_killed |= killed
        await _all_gone(watch, killed)
        # One that is just ending may be there still, and be waited for no longer.
        await asyncio.sleep(_PACE)
    return bool(all_killed)


async def look_for(family: Family) -> frozenset[Identity]:
    """Find every proven descendant that is alive; outlasts a shortage of descriptors."""
    return await outlasting_shortage(lambda: asyncio.to_thread(survivors, family))


async def _all_gone(watch: ExitWatch, identities: Iterable[Identity]) -> None:
    # One after the other: a descriptor each would be many, and the last counts.
    for identity in identities:
        await gone(watch, identity)


def _signalled(identity: Identity, *signals: signal.Signals) -> bool:
    try:
        for number in signals:
            if is_alive(identity):
                os.kill(identity.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        _log.warning("may not signal what a process left behind", pid=identity.pid)
        return False
    return True


def _parent_of(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return None


def _alive(identities: Iterable[Identity]) -> frozenset[Identity]:
    return frozenset(identity for identity in identities if is_alive(identity))


def _pids(identities: Iterable[Identity]) -> list[int]:
    return sorted(identity.pid for identity in identities)
