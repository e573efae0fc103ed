"""The addresses of this machine, at which its programs can listen."""

import errno
import socket

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def is_own_address(host: str) -> bool:
    """Return whether a program can listen at this IP address now; takes some microseconds.

    True as well if that cannot be told, as without a free descriptor.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Of a datagram socket, so that no port of TCP is taken.
        with socket.socket(family, socket.SOCK_DGRAM) as tried:
            tried.bind((host, 0))
    except OSError as error:
        return error.errno not in _NOT_HERE
    return True
