"""Sending spans to a collector that fails, or that never answers, in this process."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from structlog.testing import capture_logs

from pool_service.tracing import exporting

FAILURE, SUCCESS = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
CANNOT = "traces cannot be sent and are dropped; is the collector there?"
AGAIN = "traces are sent again"


class Scripted(SpanExporter):
    """An exporter whose results are given; an exception is raised."""

    def __init__(self, *results: SpanExportResult | Exception) -> None:
        self.results = list(results)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


@pytest.mark.parametrize(
    ("results", "logged"),
    [
        ([FAILURE], [CANNOT]),
        ([OSError("refused")], [CANNOT]),
        ([FAILURE, OSError("refused"), FAILURE], [CANNOT]),
        ([SUCCESS, SUCCESS], []),
        ([FAILURE, SUCCESS, SUCCESS], [CANNOT, AGAIN]),
        ([FAILURE, SUCCESS, FAILURE], [CANNOT, AGAIN, CANNOT]),
    ],
)
def test_a_collector_that_is_away_is_logged_once_until_it_is_there_again(
    results: list[SpanExportResult | Exception], logged: list[str]
) -> None:
    reporting = exporting._Reporting(Scripted(*results))
    with capture_logs() as lines:
        for result in results:
            expected = FAILURE if isinstance(result, Exception) else result
            assert reporting.export([]) is expected
    assert [line["event"] for line in lines] == logged


class Ending:
    """A provider whose end takes until it is released."""

    def __init__(self) -> None:
        self.begun, self.released = threading.Event(), threading.Event()

    def shutdown(self) -> None:
        self.begun.set()
        self.released.wait()


def test_the_end_of_traces_that_cannot_be_sent_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporting, "CLOSE_S", 0.05)
    provider: Any = Ending()
    try:
        finish = exporting.close(provider)
        assert provider.begun.wait(20)
        with capture_logs() as lines:
            finish()
        assert [line["event"] for line in lines] == ["the last traces could not be sent in time"]
    finally:
        provider.released.set()


def test_traces_that_are_sent_meanwhile_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whoever waits for it to pass would be noticed.
    monkeypatch.setattr(exporting, "CLOSE_S", 10_000.0)
    finish = exporting.close(TracerProvider(shutdown_on_exit=False))
    with capture_logs() as lines:
        finish()
    assert lines == []
