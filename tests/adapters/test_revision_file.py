"""Claims about where revisions begin."""

import os
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.records.revision_file import (
    MAX_REVISION,
    RESERVED_REVISIONS,
    first_revision,
)

NOW = 1_790_000_000_000
YEAR = 365 * 86_400_000


def test_it_is_the_time_of_day_where_nothing_is_known(tmp_path: Path) -> None:
    assert first_revision(tmp_path, NOW) == NOW


@pytest.mark.parametrize("later", [0, 1, -1, -YEAR, -10 * YEAR, 10 * YEAR])
def test_it_is_above_all_that_earlier_services_gave(tmp_path: Path, later: int) -> None:
    firsts = [first_revision(tmp_path, NOW + later * run) for run in range(4)]
    assert all(after >= before + min(RESERVED_REVISIONS, 1) for before, after in pairwise(firsts))


@pytest.mark.parametrize(
    "text", ["", "x", "-5", "1e9", "9" * 400, f"{MAX_REVISION}", "\x00\xff", "²"]
)
def test_what_no_service_wrote_counts_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "revision").write_text(text)
    assert first_revision(tmp_path, NOW) == NOW


def test_a_state_directory_that_cannot_be_written_keeps_nothing_from_starting(
    tmp_path: Path,
) -> None:
    with capture_logs() as logs:
        assert first_revision(tmp_path / "gone", NOW) == NOW
    assert [line["event"] for line in logs] == ["cannot write the first revision"]


def test_neither_a_pipe_nor_a_link_holds_up_the_start_or_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "revision")
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / "revision.new").symlink_to(other)
    assert first_revision(tmp_path, 5) == 5
    assert other.read_text() == "mine"
    assert first_revision(tmp_path, 5) == 5 + RESERVED_REVISIONS
