"""A tool in Rust is built from the very crate that is pinned, or not at all."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CARGO = """#!/bin/sh
case "$1" in
--version) ;;
generate-lockfile) cat > "${4%/*}/Cargo.lock" <<'END'
[[package]]
name = "a-tool-plugin"
checksum = "bbbb"

[[package]]
name = "a-tool"
version = "1.0.0"
checksum = "aaaa"
END
;;
install) echo "$@" >> installed ;;
esac
"""

pytestmark = pytest.mark.process


def cargo_tools(checkout: Path, pinned: str) -> "subprocess.CompletedProcess[str]":
    """Run the script in a checkout with this list, and a cargo that only takes notes."""
    (checkout / "tools").mkdir(exist_ok=True)
    shutil.copy(ROOT / "tools/cargo_tools.sh", checkout / "tools")
    (checkout / "tools/cargo_tools.txt").write_text(pinned)
    cargo = checkout / "bin/cargo"
    cargo.parent.mkdir(exist_ok=True)
    cargo.write_text(CARGO)
    cargo.chmod(0o755)
    return subprocess.run(
        ["sh", str(checkout / "tools/cargo_tools.sh"), "a-tool"],
        env={"PATH": f"{cargo.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_pinned_crate_is_built_once(tmp_path: Path) -> None:
    for _ in range(2):
        done = cargo_tools(tmp_path, "a-tool 1.0.0 aaaa\n")
        assert done.returncode == 0, done.stderr
    (built,) = (tmp_path / "installed").read_text().splitlines()
    assert built.endswith("--locked --root .cache/tools a-tool@=1.0.0")


@pytest.mark.parametrize("pinned", ["a-tool 1.0.0 bbbb\n", "a-tool 1.0.0\n", "other 1.0.0 aaaa\n"])
def test_another_crate_is_not_built(tmp_path: Path, pinned: str) -> None:
    done = cargo_tools(tmp_path, pinned)
    assert done.returncode == 1
    assert "tools/cargo_tools.txt" in done.stderr
    assert not (tmp_path / "installed").exists()


def test_every_pin_has_a_hash() -> None:
    lines = (ROOT / "tools/cargo_tools.txt").read_text().splitlines()
    pins = [line.split() for line in lines if not line.startswith("#")]
    assert pins
    for name, version, digest in pins:
        assert (len(digest), set(digest) <= set("0123456789abcdef")) == (64, True), name
        assert version
