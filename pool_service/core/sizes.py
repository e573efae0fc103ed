"""Amounts of memory as people read them, the same in errors, tables and log lines."""

_STEP = 1000
# Each with its decimal places.
_SIZES = (("B", 0), ("kB", 0), ("MB", 0), ("GB", 1), ("TB", 1))


def size(count: float) -> str:
    """Return bytes in decimal units: 0 B, 512 MB, 3.2 GB."""
    amount = float(count)
    for unit, digits in _SIZES[:-1]:
        if round(amount, digits) < _STEP:
            return f"{amount:.{digits}f} {unit}"
        amount /= _STEP
    unit, digits = _SIZES[-1]
    return f"{amount:.{digits}f} {unit}"
