"""What is pinned is pinned to the file, wherever it is installed from."""

import re
from pathlib import Path

import pytest

from tools import setup

ROOT = Path(__file__).resolve().parents[2]
LISTS = (
    *(
        "pool_service/runtime_requirements.txt",
        "packaging/requirements/dev.txt",
        "packaging/requirements/docs.txt",
    ),
    *(f"packaging/requirements/{name}.txt" for name in ("dev", "docs", "service")),
)


@pytest.mark.parametrize("name", LISTS)
def test_every_package_has_its_version_and_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text()
    packages = re.findall(r"^(?![\s#])(.+?(?:\\\n.+?)*)$", text, re.MULTILINE)
    assert len(packages) > 10
    for package in packages:
        assert re.match(r"[a-z0-9._-]+==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text


def test_the_set_up_finds_the_pin_of_uv_with_its_hashes() -> None:
    (pin,) = setup.UV.findall(setup.LISTS[-1].read_text())
    first, *hashes = [line for line in pin.splitlines() if "# via" not in line]
    assert re.fullmatch(r"uv==\S+ \\", first)
    assert len(hashes) > 10
    assert all("--hash=sha256:" in line for line in hashes if not line.lstrip().startswith("#"))
