"""Bars: the memory of the pool, and the progress of a start."""

from pool_service_client import Server, ServerState

_STATES_WITH_PROGRESS = {ServerState.QUEUED, ServerState.STARTING}


def memory_bar(used: int, reserved: int, total: int, width: int, *, has_symbols: bool) -> str:
    """Return a bar of `width` cells: what is used, what is reserved beyond that, and what is left.

    used, reserved, total: in bytes.
    """
    full, promised, free = "█▒░" if has_symbols else "#=."
    ends = [_cells(amount, total, width) for amount in (used, max(used, reserved))]
    return full * ends[0] + promised * (ends[1] - ends[0]) + free * (width - ends[1])


def progress_bar(server: Server | None, width: int, has_symbols: bool) -> str:  # noqa: FBT001  # one way
    """Return a bar of the progress of a server's download or load; empty if it is not known."""
    if server is None or server.progress is None or server.state not in _STATES_WITH_PROGRESS:
        return ""
    full, free = "█░" if has_symbols else "#."
    end = _cells(server.progress, 1, width)
    return full * end + free * (width - end)


def _cells(amount: float, total: float, width: int) -> int:
    return max(0, min(width, round(width * amount / total))) if total else 0
