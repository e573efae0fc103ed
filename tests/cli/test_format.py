import pytest

from pool_service.cli.format import human_duration, safe
from pool_service.core.units import size


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("qwen3 4b/é漢", "qwen3 4b/é漢"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\x07\x00", r"a\nb\r\x07\x00"),
        ("\u202eabc", r"\u202eabc"),
        ("a\u200bb\u2028c", r"a\u200bb\u2028c"),
        ("\x9b31m", r"\x9b31m"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert safe(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3.0, "0s"),
        (59.9, "59s"),
        (60.0, "1m"),
        (3599.0, "59m"),
        (3600.0, "1h"),
        (7500.0, "2h 5m"),
        (86400.0, "1d"),
        (90000.0, "1d 1h"),
    ],
)
def test_spans_are_in_one_or_two_units(seconds: float, shown: str) -> None:
    assert human_duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (512_000_000, "512 MB"),
        (999_499_999, "999 MB"),
        (999_999_999, "1.0 GB"),
        (3_249_000_000, "3.2 GB"),
        (999_960_000_000, "1.0 TB"),
        (5_000_000_000_000_000, "5000.0 TB"),
    ],
)
def test_sizes_are_in_the_decimal_unit_that_fits(count: int, shown: str) -> None:
    assert size(count) == shown
