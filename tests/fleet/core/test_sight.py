"""Whether members are lost, or the front is cut off, by values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.fleet.core.sight import is_cut_off

TIMES = st.lists(st.one_of(st.integers(0, 20).map(float), st.floats(0, 20)), max_size=8)


@pytest.mark.parametrize(
    ("vanished", "known", "cut_off"),
    [
        ([], 0, False),
        ([], 3, False),
        ([5.0], 1, True),
        ([5.0], 2, False),  # a half is no majority
        ([5.0], 3, False),
        ([5.0, 8.0], 3, True),
        ([5.0, 8.1], 3, False),  # one after the other
        ([5.0, 8.0, 20.0, 23.0], 5, False),
        ([5.0, 6.0, 7.0, 20.0], 5, True),
    ],
)
def test_a_front_is_cut_off_if_more_than_half_vanish_within_the_window(
    vanished: list[float], known: int, cut_off: bool
) -> None:
    assert is_cut_off(vanished, known, 3.0) is cut_off


@given(vanished=TIMES, more=st.integers(0, 8), window=st.sampled_from([0.0, 1.0, 3.0, 30.0]))
def test_it_is_as_if_each_window_were_counted(
    vanished: list[float], more: int, window: float
) -> None:
    known = len(vanished) + more
    most = max(
        (sum(0 <= time - first <= window for time in vanished) for first in vanished), default=0
    )
    assert is_cut_off(vanished, known, window) is (most > known / 2)
    assert is_cut_off(vanished[::-1], known, window) is (most > known / 2)
