"""The text of metrics, in Prometheus's format 0.0.4, made in small pieces.

A scrape runs on the event loop beside the calls, and each piece is a fraction of a millisecond.
The client library of Prometheus was measured and holds the loop for longer (docs/dependencies.md).
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from pool_service.core.types import FOREVER
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.families import Family
from pool_service.metrics.values import Counter, Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Not OpenMetrics: that names the families of counters otherwise, and Prometheus reads both."""

LINES_A_PIECE = 200
"""Lines that are written at a time, in about a tenth of a millisecond."""

Sample = tuple[str, float]
"""The labels as they are written, with braces or empty, and the value."""


def pieces(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines in pieces of at most about LINES_A_PIECE lines each.

    An empty line asks for the end of the piece. A piece may be empty: it stands for work that
    yields its text later.
    """
    piece: list[str] = []
    for line in lines:
        if line:
            piece.append(line)
        if not line or len(piece) >= LINES_A_PIECE:
            yield "".join(piece)
            piece.clear()
    yield "".join(piece)


def escape(value: str) -> str:
    """Return a label's value with the escapes of the format."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def head_lines(family: Family) -> Iterator[str]:
    """Yield the lines that begin a family."""
    yield f"# HELP {family.full_name} {family.help}\n"
    yield f"# TYPE {family.full_name} {family.kind}\n"


def family_lines(family: Family, samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the lines of a family without histograms."""
    yield from head_lines(family)
    name = family.full_name
    for labels, value in samples:
        yield f"{name}{labels} {number(value)}\n"


def counter_lines(family: Family, counter: Counter) -> Iterator[str]:
    """Yield the lines of a counter, all of the same moment."""
    # A copy: counts may be added while the pieces are written.
    counts = [(labels_of(family, key), count) for key, count in counter.counts.items()]
    return family_lines(family, counts)


def histogram_lines(
    family: Family, by_labels: Mapping[tuple[str, ...], Histogram]
) -> Iterator[str]:
    """Yield the lines of a family of histograms, each of one moment."""
    yield from head_lines(family)
    for values, histogram in by_labels.items():
        yield from _histogram(family, values, histogram)


def call_lines(calls: CallCounts, ended: Family, seconds: Family, streams: Family) -> Iterator[str]:
    """Yield the lines of calls: how they ended, how long they took, and the open streams."""
    counts = [(labels_of(ended, key), count) for key, count in calls.ended.items()]
    yield from family_lines(ended, counts)
    yield from histogram_lines(seconds, {(method,): one for method, one in calls.seconds.items()})
    is_open = [(labels_of(streams, (method,)), count) for method, count in calls.streams.items()]
    yield from family_lines(streams, is_open)


def labels_of(family: Family, values: tuple[str, ...]) -> str:
    """Return the labels of a sample as they are written; empty if there are none."""
    pairs = zip(family.labels, values, strict=True)
    text = ",".join(f'{name}="{escape(value)}"' for name, value in pairs)
    return f"{{{text}}}" if text else ""


def number(value: float) -> str:
    """Return a value as it is written."""
    if value == FOREVER:
        return "+Inf"
    return repr(value)


def _histogram(family: Family, values: tuple[str, ...], histogram: Histogram) -> list[str]:
    """Return the lines of one histogram, all of the same moment."""
    name, labels = family.full_name, labels_of(family, values)
    inner = f"{labels[1:-1]}," if labels else ""
    bounds = [*map(number, histogram.bounds), "+Inf"]
    counts = list(accumulate(histogram.counts))
    lines = [
        f'{name}_bucket{{{inner}le="{bound}"}} {count}\n'
        for bound, count in zip(bounds, counts, strict=True)
    ]
    lines.append(f"{name}_sum{labels} {number(histogram.total)}\n")
    lines.append(f"{name}_count{labels} {counts[-1]}\n")
    return lines
