import pytest

from pool_service.adapters.runtime.diagnosis import describe_exit, diagnose_exit, quote
from pool_service.core.types import Diagnosis


@pytest.mark.parametrize(
    ("code", "signal", "words"),
    [
        (0, None, "exited with code 0"),
        (3, None, "exited with code 3"),
        (None, 9, "was ended by SIGKILL"),
        (None, 99, "was ended by signal 99"),
    ],
)
def test_an_exit_is_said_in_words(code: int | None, signal: int | None, words: str) -> None:
    assert describe_exit(code, signal) == words
    assert diagnose_exit(code, signal, ()) == (Diagnosis.CRASHED, words)


def test_an_exit_of_which_nothing_is_known_is_not_given_a_code() -> None:
    assert "not known" in describe_exit(None, None)


@pytest.mark.parametrize(("length", "end"), [(300, "x"), (301, "…")])
def test_a_line_that_is_quoted_has_three_hundred_characters_at_most(length: int, end: str) -> None:
    quoted = quote("x" * length)
    assert (len(quoted), quoted[-1]) == (300, end)
