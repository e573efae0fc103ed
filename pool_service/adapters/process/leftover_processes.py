"""Leftover processes: finding and ending the descendants that an exited process left behind.

The pool starts each server as the leader of its own session, so that a descendant is a member of
the session unless it has started another one. A process counts as a descendant only if one of these
proves it:
1. it carries the server's nonce in its environment;
2. it writes to the server's log or runs in its working directory (`file_users.py`);
3. it is in the server's control group, if the server has one;
4. it is in the leader's session, and that session has a member that is proven or was known
   before (the kernel does not reuse the number of a session while it has members).
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from pool_service.adapters.process.control_groups import ControlGroups
from pool_service.adapters.process.exits import ExitWatch, retry_on_shortage, wait_for_exit
from pool_service.adapters.process.file_users import find_file_users
from pool_service.adapters.process.identity import (
    identity_of,
    is_alive,
    is_session_leader,
    session_member_pids,
    variable_of,
)
from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.core.types import Identity

_log = structlog.get_logger(__name__)

Drain = Callable[[frozenset[Identity]], Awaitable[frozenset[Identity]]]
"""Waits until the given descendants have finished their requests; returns those still alive."""

_SCANS = 2
"""How often all processes are scanned for a nonce. The second scan finds a process that was forked
during the first one, and a process that was in an exec then, so that its environment could not be
read."""

_RESCAN_PAUSE_S = 0.01
"""The pause before the scan that follows SIGKILL, as a process that is just ending may still be
listed."""


@dataclass(frozen=True, slots=True)
class ProcessTree:
    """The features by which `survivors` recognizes the descendants of one process, the leader.

    leader_pid: None if not known.
    nonce: the leader's nonce, which its descendants inherit.
    members: descendants that are proven or were known before.
    others: pids to skip, as they are certainly no descendants.
    log, work_dir: the leader's log and working directory; None if not known.
    groups: where the leader has a control group, named by its nonce.
    """

    leader_pid: int | None
    nonce: str
    members: frozenset[Identity] = frozenset()
    others: frozenset[int] = frozenset()
    log: Path | None = None
    work_dir: Path | None = None
    groups: ControlGroups = field(default_factory=ControlGroups)


def members_of(leader: Identity) -> frozenset[Identity]:
    """Return the other members of a leader's session; empty once the leader is reaped."""
    members = session_members(leader.pid)
    # The leader or its zombie is still there, so the number cannot be another session's.
    return members if identity_of(leader.pid) == leader else frozenset()


def session_members(leader_pid: int) -> frozenset[Identity]:
    """Return the live members of the session with this number, without its leader.

    Once the leader is reaped and the session empty, the number may be that of another session.
    """
    return _alive(filter(None, map(identity_of, session_member_pids(leader_pid))))


def survivors(tree: ProcessTree) -> frozenset[Identity]:
    """Return every proven descendant that is alive.

    Blocking: some microseconds for each process of the machine. Raises OSError if the system lacks
    descriptors or memory; `find_survivors` tries again instead.
    """
    found = carriers({tree.nonce}, tree.others)
    users = find_file_users(tree.log, tree.work_dir, tree.others)
    others = {*tree.others, os.getpid()}
    grouped = {one for one in tree.groups.members(tree.nonce) if one.pid not in others}
    known = tree.members | found.get(tree.nonce, frozenset()) | users | grouped
    session = session_members(tree.leader_pid) if tree.leader_pid else frozenset[Identity]()
    return _alive(known) | (session if session & known else frozenset())


def carriers(
    nonces: Collection[str], others: Collection[int] = ()
) -> dict[str, frozenset[Identity]]:
    """Return the processes that have one of the nonces in their environment, by nonce.

    others: pids to skip, as they are known to have none of the nonces.

    Blocking: some ten microseconds for each process of the machine.
    """
    found: dict[str, frozenset[Identity]] = {}
    settled = {*others, os.getpid()}
    for _ in range(_SCANS):
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
    """Return the identity of the process with this pid if it is alive and has the nonce."""
    before = identity_of(pid)
    # The identity is the same before and after, so the environment was this process's.
    if before and variable_of(pid, NONCE_VARIABLE) == nonce and is_alive(before):
        return before
    return None


def leader_among(members: Collection[Identity]) -> Identity | None:
    """Return the leader of a process tree: the session leader whose parent is not in the tree.

    Descendants may lead sessions too; those have a parent in the tree, or started later.
    """
    pids = {identity.pid for identity in members}
    ranked = [
        (_parent_of(identity.pid) in pids, identity.start_time, identity.pid, identity)
        for identity in members
        if is_session_leader(identity.pid)
    ]
    return min(ranked, key=lambda rank: rank[:3])[3] if ranked else None


def leader_of(nonce: str) -> Identity | None:
    """Return the leader of the process tree with this nonce; None if there is none. Blocking."""
    return leader_among(carriers({nonce}).get(nonce, frozenset()))


async def end_descendants(
    watch: ExitWatch, tree: ProcessTree, term_timeout: float, drain: Drain | None = None
) -> bool:
    """End the descendants of an exited process; return whether some had to be killed.

    SIGKILL follows SIGTERM after `term_timeout` seconds. drain: called first, to wait for requests
    on the descendants; None: no wait. A descendant that may not be signalled (it has changed its
    user) is left alone and logged.
    """
    left = await find_survivors(tree)
    if left and drain is not None:
        left = await drain(left)
    if not left:
        return False
    _log.info("ending descendants of an exited process", pids=_pids(left), leader=tree.leader_pid)
    asked = frozenset(i for i in left if _signalled(i, signal.SIGTERM, signal.SIGCONT))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(term_timeout):
            await _all_gone(watch, asked)
    untouchable = all_killed = frozenset[Identity]()
    while left := await find_survivors(tree) - untouchable:
        _log.warning("killing descendants of an exited process", pids=_pids(left))
        killed = frozenset(i for i in left if _signalled(i, signal.SIGKILL))
        untouchable |= left - killed
        all_killed |= killed
        await _all_gone(watch, killed)
        await asyncio.sleep(_RESCAN_PAUSE_S)
    return bool(all_killed)


async def find_survivors(tree: ProcessTree) -> frozenset[Identity]:
    """Return the `survivors` of a tree; try again while descriptors or memory are short."""
    return await retry_on_shortage(lambda: asyncio.to_thread(survivors, tree))


async def _all_gone(watch: ExitWatch, identities: Iterable[Identity]) -> None:
    # One after the other, as each wait takes a descriptor and only the last exit matters.
    for identity in identities:
        await wait_for_exit(watch, identity)


def _signalled(identity: Identity, *signals: signal.Signals) -> bool:
    """Send the signals to a process unless it is gone; return False if that is not permitted."""
    try:
        for number in signals:
            if is_alive(identity):
                os.kill(identity.pid, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        _log.warning("not permitted to signal a descendant", pid=identity.pid)
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


def log_unproven(leader: Identity) -> None:
    """Log the processes that are still in an adopted leader's session after its clean-up.

    They are left alone, as nothing proves that they are descendants of the leader.
    """
    # Else the pid is another process's by now, and so is the session.
    if identity_of(leader.pid) in (None, leader):
        pids = sorted(member.pid for member in session_members(leader.pid))
        if pids:
            _log.warning(
                "processes that may be of an ended server are left alone",
                pids=pids,
                leader=leader.pid,
            )
