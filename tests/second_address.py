"""A second address of this machine, where servers of a fleet can listen."""

import sys

import pytest

SECOND_LOOPBACK = "127.0.0.2" if sys.platform == "linux" else "::1"
"""macOS has only 127.0.0.1 of IPv4 unless an administrator adds others."""

NOWHERE = "192.0.2.1"
"""For documents (RFC 5737), so that no machine has it."""

needs_ipv4_addresses = pytest.mark.skipif(
    sys.platform != "linux", reason="macOS has only 127.0.0.1 unless an administrator adds others"
)
