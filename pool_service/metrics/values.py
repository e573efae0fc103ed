"""Values that only rise: counters by labels and histograms, as plain numbers."""

from bisect import bisect_left
from collections.abc import Callable, Sequence

OTHER = "_other"
"""The `model` label of all models beyond the first MAX_UNLISTED that no configuration lists."""

MAX_UNLISTED = 200
"""Models with a label of their own although no configuration lists them: clients may name any."""


class Counter:
    """Counts by the values of labels."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, ...], int] = {}

    def add(self, *labels: str) -> None:
        """Count one more with these values of labels."""
        self.counts[labels] = self.counts.get(labels, 0) + 1


class Histogram:
    """Counts observations by upper bounds, which are inclusive and sorted.

    counts: one count for each bound, and a last one for larger values; not cumulative.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the unit of the bounds."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class ModelLabels:
    """Bounds the values of the `model` label.

    A listed model has its own. So have the first MAX_UNLISTED others; all further ones share OTHER.
    """

    def __init__(self, is_listed: Callable[[str], bool]) -> None:
        self._is_listed = is_listed
        self._unlisted: set[str] = set()

    def of(self, model: str) -> str:
        """Return the label of a model."""
        if self._is_listed(model) or model in self._unlisted:
            return model
        if len(self._unlisted) >= MAX_UNLISTED:
            return OTHER
        self._unlisted.add(model)
        return model
