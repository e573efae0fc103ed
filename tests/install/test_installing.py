"""A person installs one thing, by whichever installer, and it works."""

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

import pytest

from tests.install.conftest import ROOT, Distributions, Home
from tools.set_version import version

pytestmark = pytest.mark.installs

TOOLS = Path(sys.executable).parent
NOT_YET = {"runtime"}
"""What `runtime install` is for."""


@contextmanager
def serving(home: Home, program: Path) -> Iterator[str]:
    """Run the service; yields the address that it printed."""
    command = [str(program), "serve", "--listen", "127.0.0.1:0"]
    service = subprocess.Popen(
        command, env=home.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with service:
        try:
            assert service.stdout is not None
            said = service.stdout.readline()
            listening = re.match(r"listening on (\S+)", said)
            assert listening, said
            yield listening[1]
        finally:
            service.terminate()
            assert service.wait() == 0


def check(home: Home, program: Path) -> None:
    """Use the program as a person does first."""
    assert home.run(program, "--version") == f"pool-service {version()}\n"
    found = [
        json.loads(line) for line in home.run(program, "doctor", "--json", code=1).splitlines()
    ]
    assert {one["subject"] for one in found if one["verdict"] == "BROKEN"} <= NOT_YET
    with serving(home, program) as address:
        assert "0 servers" in home.run(program, "list", "--address", address)


def test_published_metadata_requires_the_client_by_version(distributions: Distributions) -> None:
    (wheel,) = distributions.wheels.glob("pool_service-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        required = Parser().parsestr(archive.read(name).decode()).get_all("Requires-Dist", [])
    assert [one for one in required if one.startswith("pool-service") or "@" in one] == [
        f"pool-service-client~={version()}"
    ]


@pytest.mark.parametrize("source", ["wheels", "sdists"])
def test_uv_installs_what_is_published(
    home: Home, distributions: Distributions, source: str
) -> None:
    directory: Path = getattr(distributions, source)
    (package,) = directory.glob("pool_service-*")
    home.run(TOOLS / "uv", "tool", "install", "--find-links", directory, package)
    check(home, home.program)


def test_uv_installs_a_clone(home: Home) -> None:
    home.run(TOOLS / "uv", "tool", "install", ROOT)
    check(home, home.program)
    home.run(TOOLS / "uv", "tool", "uninstall", "pool-service")
    assert not home.program.exists()


@pytest.mark.parametrize(("backend", "source"), [("pip", "wheels"), ("uv", "clone")])
def test_pipx_installs_it(
    home: Home, distributions: Distributions, backend: str, source: str
) -> None:
    package, options = ROOT, []
    if source != "clone":
        directory: Path = getattr(distributions, source)
        (package,) = directory.glob("pool_service-*")
        options = [f"--pip-args=--find-links={directory}"]
    home.run(TOOLS / "pipx", "install", "--backend", backend, *options, package)
    check(home, home.program)
    assert (home.path / ".local/share/man/man1/pool-service.1").exists()
    home.run(TOOLS / "pipx", "uninstall", "pool-service")
    assert not home.program.exists()


def test_pip_installs_the_pinned_versions_as_the_document_says(home: Home) -> None:
    document = (ROOT / "docs/how-to/install.md").read_text()
    (block,) = re.findall(r"```\n([^`]*--require-hashes[^`]*)```", document)
    python = sys._base_executable  # type: ignore[attr-defined]
    block = re.sub(r"(?m)(^| )env(?=[/\n])", rf"\1{home.path}/env", block)
    block = block.replace("python3 ", f"{python} ")
    home.run("sh", "-ec", f"cd {ROOT}\n{block}")
    check(home, home.path / "env/bin/pool-service")


@pytest.mark.parametrize("source", ["sdists", "clone"])
def test_pip_installs_it(home: Home, distributions: Distributions, source: str) -> None:
    package, options = ROOT, []
    if source != "clone":
        directory: Path = getattr(distributions, source)
        (package,) = directory.glob("pool_service-*")
        options = ["--find-links", str(directory)]
    home.run(sys._base_executable, "-m", "venv", "env")  # type: ignore[attr-defined]
    home.run("env/bin/pip", "install", *options, package)
    check(home, home.path / "env/bin/pool-service")
