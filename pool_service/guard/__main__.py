"""What the guard does before it has to act: it waits, and is small."""

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

from pool_service.adapters.state_dir.guard_lock import take_if_free, take_over
from pool_service.adapters.state_dir.sentry import stand_down
from pool_service.adapters.state_dir.state_dir import await_free
from pool_service.adapters.system.child import reset_signals

_log = logging.getLogger("pool_service.guard")


def main() -> None:
    """Guard the servers of one state directory."""
    options = _options()
    reset_signals()
    # logging_setup takes over when there is something to do: it is large.
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        format="%(asctime)s.%(msecs)03dZ [%(levelname)s] %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        level=logging.INFO,
    )
    # By now what was relative in sys.path is absolute, and no disk should be kept busy.
    os.chdir("/")
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _sent_away)
    try:
        _guard(options)
    except SystemExit:
        # A service that lives starts another guard, and the sentry follows it until then.
        if _is_gone(sys.stdin.fileno()):
            stand_down(options.sentry)
        raise
    # Not where it is broken: then the sentry follows it.
    stand_down(options.sentry)


def _guard(options: argparse.Namespace) -> None:
    if not _has_the_lock(options):
        _log.info("a later service has its own guard; pid=%d ends", os.getpid())
        return
    _log.info("guarding; pid=%d grace=%g", os.getpid(), options.grace)
    # Nobody writes there: it returns at the end of the pipe, when the service is gone.
    os.read(sys.stdin.fileno(), 1)
    _log.info("the service is gone; another has %g s to come", options.grace)
    _await_successor(options.state_dir, options.grace)


def _is_gone(pipe: int) -> bool:
    """Return whether the service has closed its end of the pipe, as its own end does."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    return bool(poll.poll(0))


def _has_the_lock(options: argparse.Namespace) -> bool:
    """Whether this is the guard, for all that can be known."""
    try:
        take = take_if_free if options.last else take_over
        return take(options.state_dir) is not None
    except OSError as error:
        # Two guards do no harm, as none acts while there is a service; no guard does.
        _log.warning("going on without a lock: %s", error)
        return True


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pool_service.guard", allow_abbrev=False)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--sentry", type=int, default=-1)
    parser.add_argument("--last", action="store_true")
    return parser.parse_args()


def _sent_away(_number: int, _frame: FrameType | None) -> None:
    """End for the service that needs no guard any more, its successor's guard, or a person."""
    _log.info("sent away by SIGTERM; servers that still run have no guard until another comes")
    sys.exit(0)


def _await_successor(state_dir: Path, grace: float) -> None:
    """Give a successor its time, then act, unless there is one.

    A successor's guard sends this one away. If a successor dies before it has one, the grace
    begins again.
    """
    time.sleep(grace)
    from pool_service.guard.orphans import end_orphans  # noqa: PLC0415 - it is large

    while not end_orphans(state_dir):
        with contextlib.suppress(OSError):
            await_free(state_dir)
        time.sleep(grace)


if __name__ == "__main__":
    main()
