"""What is pinned is pinned to the file, wherever it is installed from."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tools import setup

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = {"runtime-excludes.txt", "runtime-overrides.txt"}
"""What `make lock` reads beside the lists that it writes."""
LISTS = [
    ROOT / "pool_service/runtime_requirements.txt",
    *sorted(
        path
        for path in (ROOT / "packaging/requirements").glob("*.txt")
        if path.name not in SETTINGS
    ),
]


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the repository that match; all but new ones, which git does not know."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in sorted(listed.stdout.split("\0")) if name]


def by_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", LISTS, ids=by_name)
def test_every_package_has_its_version_and_its_hashes_and_no_address(path: Path) -> None:
    text = path.read_text()
    packages = re.findall(r"^(?![\s#])(.+?(?:\\\n.+?)*)$", text, re.MULTILINE)
    assert len(packages) > 4
    for package in packages:
        assert re.match(r"[a-z0-9._-]+(\[[a-z,]+\])?==\S+", package), package
        assert "--hash=sha256:" in package, package
    assert "://" not in text


@pytest.mark.parametrize("path", tracked("*package-lock.json"), ids=by_name)
def test_every_npm_package_has_its_hash_and_no_address(path: Path) -> None:
    packages = json.loads(path.read_text())["packages"]
    del packages[""]
    assert packages
    assert [name for name, one in packages.items() if not one.get("integrity")] == []
    assert "://" not in re.sub(r'"(url|funding)": .*', "", path.read_text())


@pytest.mark.parametrize("path", tracked("*go.mod"), ids=by_name)
def test_every_go_module_has_its_hash(path: Path) -> None:
    """`go` refuses a module that go.sum does not know, and bytes that are not those it knows."""
    module = path.read_text()
    required = re.findall(r"(?m)^(?:require )?\t?(\S+\.\S+/\S+ v\S+)", module)
    replaced = re.findall(r"(?m)^replace (\S+) => \.", module)
    hashes = path.with_name("go.sum").read_text()
    assert required
    missing = [one for one in required if not re.search(rf"(?m)^{re.escape(one)}\S* h1:", hashes)]
    assert [one for one in missing if one.split()[0] not in replaced] == []


def test_whatever_installs_a_list_does_so_by_hash_and_builds_nothing() -> None:
    """A command is a block without an empty line; setup.py and provision.py have their own test."""
    blocks = [
        (path, block)
        for path in tracked("*Dockerfile*", "*.sh", "*.yml", "*.rb", "Makefile", ".ci/run")
        for block in re.findall(r"(?:.*\\\n)*.*", path.read_text())
        if re.search(r"(?:--requirement|\binstall\b.*-r)\b", block)
    ]
    assert {path.name for path, _ in blocks} == {"Dockerfile", "list_venv.sh", "pool-service.rb"}
    for path, block in blocks:
        assert "--require-hashes" in block, (path, block)
        assert re.search(r"--only-binary\W+:all:", block), (path, block)


def test_the_set_up_finds_the_pin_of_uv_with_its_hashes() -> None:
    (pin,) = setup.UV.findall(setup.LISTS[-1].read_text())
    first, *hashes = [line for line in pin.splitlines() if "# via" not in line]
    assert re.fullmatch(r"uv==\S+ \\", first)
    assert len(hashes) > 10
    assert all("--hash=sha256:" in line for line in hashes if not line.lstrip().startswith("#"))
