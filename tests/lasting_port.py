"""A port that a service can have again and again."""

from tools.bench.turns import free_ports


def lasting_port() -> int:
    """Return a port on which nobody listens, and that no connection of another test gets."""
    return free_ports(1)
