"""Shares are read the same by the configuration and the command line."""

import pytest

from pool_service.core.units import share_of


@pytest.mark.parametrize(
    ("text", "share"), [("50%", 0.5), (" 62.5 % ", 0.625), ("100%", 1.0), ("0.1%", 0.001)]
)
def test_a_share_is_written_in_percent(text: str, share: float) -> None:
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "%", "50", "0%", "100.1%", "-5%", "nan%", "5%%", "1e1%"])
def test_what_is_no_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="50%"):
        share_of(text)
