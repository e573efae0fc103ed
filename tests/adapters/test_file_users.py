"""By what a file is known that a process uses."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.process.file_users import _File


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_file_is_known_by_its_path_and_its_inode_together(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("w") as opened:
        link = f"/proc/self/fd/{opened.fileno()}"
        file = _File.at(path)
        assert file is not None
        assert file.is_at(link)
        device, inode = file.inode
        assert not replace(file, inode=(device, inode + 1)).is_at(link), "another container's"
        assert not replace(file, path=os.fspath(tmp_path / "other")).is_at(link)
