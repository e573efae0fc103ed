"""The proof that a process is of this pool, by real processes."""

import os
from pathlib import Path

import pytest

from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.process.proof import is_of_pool
from tests.under_way import under_way

NONCE = "nonce"


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "state/work" / NONCE
    directory.mkdir(parents=True)
    return directory


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The directory of the same process in another state directory."""
    directory = tmp_path / "other/work" / NONCE
    directory.mkdir(parents=True)
    return directory


@pytest.mark.parametrize(
    ("nonce", "place", "is_ours"),
    [
        ("", "work_dir", True),
        (NONCE, "elsewhere", True),
        ("another", "elsewhere", False),
        ("", "elsewhere", False),
        (NONCE, "copied", False),
    ],
)
def test_one_sign_is_enough_but_not_beside_one_of_another_pool(
    tmp_path: Path, work_dir: Path, copied: Path, nonce: str, place: str, is_ours: bool
) -> None:
    directory = {"work_dir": work_dir, "copied": copied, "elsewhere": tmp_path}[place]
    with under_way({NONCE_VARIABLE: nonce}, directory) as process:
        assert is_of_pool(process.pid, NONCE, work_dir, None) is is_ours
        process.kill()
    assert not is_of_pool(process.pid, NONCE, work_dir, None)


def test_a_directory_that_was_removed_refutes_nothing(work_dir: Path, copied: Path) -> None:
    with under_way({NONCE_VARIABLE: NONCE}, copied) as process:
        copied.rmdir()
        assert is_of_pool(process.pid, NONCE, work_dir, None)
        process.kill()


def test_whoever_has_the_log_open_is_its_server(tmp_path: Path, work_dir: Path) -> None:
    log = tmp_path / "log"
    with log.open("w"):
        assert is_of_pool(os.getpid(), NONCE, work_dir, log)
        assert not is_of_pool(os.getpid(), NONCE, work_dir, None)
        assert not is_of_pool(os.getpid(), NONCE, work_dir, tmp_path / "another")
    assert not is_of_pool(os.getpid(), NONCE, work_dir, log)
