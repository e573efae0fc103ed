"""What is told of an error of the system."""

import errno

import pytest

from pool_service.adapters.system.os_errors import SHORTAGES, raise_shortage, reason


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOENT, "No such file"), "No such file"),
        (OSError(errno.ENOENT, "No such file", "/a/b"), "No such file (/a/b)"),
        (OSError(errno.EBADF, "Bad file descriptor", 7), "Bad file descriptor"),
        (OSError("timed out"), "timed out"),
    ],
)
def test_an_error_is_told_by_the_systems_text_and_the_file(error: OSError, told: str) -> None:
    assert reason(error) == told


@pytest.mark.parametrize("number", sorted(SHORTAGES))
def test_a_shortage_is_no_property_of_a_file(number: int) -> None:
    raise_shortage(OSError(errno.ENOENT, "No such file"))
    with pytest.raises(OSError, match="short"):
        raise_shortage(OSError(number, "short"))
