"""What a vllm-mlx says of its activity, by its version and options."""

import pytest

from pool_service.adapters.runtime.vllm_mlx import use_signals
from pool_service.core.activity import UseSignals


@pytest.mark.parametrize(
    ("version", "counts_all"),
    [(None, False), ((0, 5, 9), False), ((0, 6, 0), True), ((0, 6, 1), True), ((0, 10, 0), True)],
)
def test_from_0_6_0_on_the_metrics_count_every_request(
    version: tuple[int, ...] | None, counts_all: bool
) -> None:
    signals = use_signals(version, with_metrics=True)
    assert signals.counts_all is counts_all
    assert signals.path == "/metrics"


def test_without_metrics_there_is_no_signal_of_activity() -> None:
    assert use_signals((0, 6, 0), with_metrics=False) == UseSignals()
