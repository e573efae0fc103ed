"""Counts of calls of the service, by method and status code."""

from pool_service.metrics.values import Histogram

CALL_BOUNDS_S = (0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)


class CallCounts:
    """Counts calls. A call costs some tenths of a microsecond here, since a warm Ensure is one.

    ended: by method and code; seconds: the durations of calls with one response, by method;
    streams: the open streams, by method.
    """

    def __init__(self) -> None:
        self.ended: dict[tuple[str, str], int] = {}
        self.seconds: dict[str, Histogram] = {}
        self.streams: dict[str, int] = {}

    def end(self, method: str, code: str, seconds: float) -> None:
        """Count a call with one response."""
        self.count(method, code)
        histogram = self.seconds.get(method)
        if histogram is None:
            histogram = self.seconds[method] = Histogram(CALL_BOUNDS_S)
        histogram.observe(seconds)

    def count(self, method: str, code: str) -> None:
        """Count the end of a call by its code."""
        key = method, code
        self.ended[key] = self.ended.get(key, 0) + 1

    def open_stream(self, method: str) -> None:
        """Count a stream as open."""
        self.streams[method] = self.streams.get(method, 0) + 1

    def close_stream(self, method: str, code: str) -> None:
        """Count the end of a stream."""
        self.streams[method] -= 1
        self.count(method, code)
