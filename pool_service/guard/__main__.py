"""The guard's main loop: waits for the end of the service, then for another service."""

import argparse
import contextlib
import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from pool_service.adapters.state_dir.directory_lock import await_free
from pool_service.adapters.state_dir.guard_lock import take_if_free, take_over
from pool_service.adapters.state_dir.guard_sentry import stand_down
from pool_service.adapters.system.process_settings import reset_signals

_log = logging.getLogger("pool_service.guard")


def main() -> None:
    """Guard the servers of one state directory."""
    options = _options()
    reset_signals()
    # Plain logging, as logging_setup is large: it is imported only when there are servers to end.
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        format="%(asctime)s.%(msecs)03dZ [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        level=logging.INFO,
    )
    # A file system cannot be unmounted while a process has its working directory there.
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        _guard(options)
    except SystemExit:
        # SIGTERM. A running service starts another guard; until then the sentry guards its servers.
        if _is_gone(sys.stdin.fileno()):
            stand_down(options.sentry)
        raise
    # The work is done. After an error this is not reached, and the sentry replaces this guard.
    stand_down(options.sentry)


def _guard(options: argparse.Namespace) -> None:
    """Wait for the end of the service; then end its servers, unless another service comes."""
    if not _take_lock(options):
        _log.info("a later service has its own guard; pid=%d ends", os.getpid())
        return
    _log.info("guarding; pid=%d grace=%g", os.getpid(), options.grace)
    # The service never writes to the pipe, so the read returns when the service is gone.
    os.read(sys.stdin.fileno(), 1)
    _log.info("the service is gone; waiting %g s for another one", options.grace)
    _await_successor(options.state_dir, options.grace)


def _is_gone(pipe: int) -> bool:
    """Return whether the service is gone, as its end of the pipe is closed."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(0))


def _take_lock(options: argparse.Namespace) -> bool:
    """Take the guard's lock; return False if this guard is to end, as another one is in charge.

    --last: take the lock only if it is free.
    """
    try:
        take = take_if_free if options.last else take_over
        return take(options.state_dir) is not None
    except OSError as error:
        # Two guards do no harm, as neither acts while there is a service. No guard would.
        _log.warning("continuing without the guard's lock: %s", error)
        return True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pool_service.guard", allow_abbrev=False)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--sentry", type=int, default=-1)
    parser.add_argument("--last", action="store_true")
    return parser.parse_args()


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    """End at a SIGTERM from the service, the next service's guard, or a person."""
    _log.info("ended by SIGTERM; servers that still run have no guard until another one starts")
    sys.exit(0)


def _await_successor(state_dir: Path, grace: float) -> None:
    """Wait `grace` seconds for the next service, then end the servers if there is none.

    The next service's guard ends this one. If the next service dies before it has started its
    guard, the grace period begins again.
    """
    time.sleep(grace)
    from pool_service.guard.orphans import end_orphans  # noqa: PLC0415 - it is large

    while not end_orphans(state_dir):
        with contextlib.suppress(OSError):
            await_free(state_dir)
        time.sleep(grace)


if __name__ == "__main__":
    main()
