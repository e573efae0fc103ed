"""What installs the lists installs the very files that were pinned, or nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_packages import pin, sdist, wheel
from tools import setup

pytestmark = pytest.mark.process

TOOLS = Path(sys.executable).parent
INSTALLERS = {
    "pip": (sys.executable, "-m", "pip", "--isolated", "install"),
    "uv": (str(TOOLS / "uv"), "pip", "install", "--no-config", "--no-cache"),
}

every_installer = pytest.mark.parametrize("installer", INSTALLERS)


def install(installer: str, directory: Path, pinned: str) -> "subprocess.CompletedProcess[str]":
    """Install a list as tools/setup.py does, from the packages in `directory`."""
    (directory / "list.txt").write_text(pinned)
    source = ("--no-index", "--find-links", str(directory), "--target", str(directory / "packages"))
    return subprocess.run(
        [*INSTALLERS[installer], *setup.OPTIONS, *source, "-r", str(directory / "list.txt")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def is_installed(directory: Path) -> bool:
    return (directory / "packages/fake_vllm_mlx.py").exists()


@every_installer
def test_the_pinned_file_is_installed(installer: str, tmp_path: Path) -> None:
    done = install(installer, tmp_path, pin("vllm-mlx==0.6.0", wheel(tmp_path, "0.6.0")))
    assert done.returncode == 0, done.stderr
    assert is_installed(tmp_path)


@every_installer
def test_a_file_in_which_a_byte_was_changed_is_not_installed(
    installer: str, tmp_path: Path
) -> None:
    file = wheel(tmp_path, "0.6.0")
    pinned = pin("vllm-mlx==0.6.0", file)
    # The last byte is of the archive's comment, so that nothing else is wrong with it.
    file.write_bytes(file.read_bytes()[:-2] + b"\x01\x00" + b"c")
    done = install(installer, tmp_path, pinned)
    assert done.returncode != 0
    assert "hash" in done.stderr.lower(), done.stderr
    assert not is_installed(tmp_path)


@every_installer
def test_a_pin_without_a_hash_is_not_installed(installer: str, tmp_path: Path) -> None:
    wheel(tmp_path, "0.6.0")
    done = install(installer, tmp_path, pin("vllm-mlx==0.6.0"))
    assert done.returncode != 0
    assert "hash" in done.stderr.lower(), done.stderr
    assert not is_installed(tmp_path)


@every_installer
def test_code_that_would_have_to_be_built_is_not_run(installer: str, tmp_path: Path) -> None:
    note = tmp_path / "its code ran"
    done = install(installer, tmp_path, pin("vllm-mlx==0.6.0", sdist(tmp_path, "0.6.0", note)))
    assert done.returncode != 0
    assert "vllm-mlx==0.6.0" in done.stderr
    assert not note.exists()
