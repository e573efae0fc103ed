"""Interruption of reads by signals: Ctrl-C ends a read that has just begun as well."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

ENDING_SIGNALS: Final = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})


@contextmanager
def shut_down_by_signals(connection: socket.socket) -> Iterator[None]:
    """Shut a connection down within the block when one of ENDING_SIGNALS arrives.

    Python runs the handler of a signal in the main thread, between two instructions. A signal
    that arrives after the last of them and before the read has begun does not end the read, which
    then waits for the server's next byte. The end of the connection always ends it. Only for the
    main thread.
    """
    receiver, sender = socket.socketpair()
    sender.settimeout(0)
    thread = threading.Thread(target=_shut_down, args=(receiver, connection), daemon=True)
    before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    try:
        thread.start()
        yield
    finally:
        signal.set_wakeup_fd(before)
        sender.close()
        thread.join()
        receiver.close()


def _shut_down(numbers: socket.socket, connection: socket.socket) -> None:
    """Shut `connection` down once `numbers` brings one of ENDING_SIGNALS; return at its end."""
    while received := numbers.recv(16):
        if not ENDING_SIGNALS.isdisjoint(received):
            # The connection may have ended by itself.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            return
