"""Sending the signals that stop a process to its group."""

import contextlib
import os
import signal

from pool_service.adapters.process.identity import is_alive
from pool_service.core.server import StopSignal
from pool_service.core.types import Identity

_SIGNALS = {
    StopSignal.TERMINATE: signal.SIGTERM,
    StopSignal.INTERRUPT: signal.SIGINT,
    StopSignal.KILL: signal.SIGKILL,
}


def send_to_group(identity: Identity, stop: StopSignal) -> None:
    """Signal the group of a process if it is alive, and so its pid still the group's number."""
    if not is_alive(identity):
        return
    # EPERM: no process of the group may be signalled.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(identity.pid, _SIGNALS[stop])
        if stop is not StopSignal.KILL:
            # In a stopped process other signals stay pending until SIGCONT.
            os.killpg(identity.pid, signal.SIGCONT)
