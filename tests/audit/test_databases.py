"""Each tool, asked about what this repository pins, with a database that this test makes.

A database that knows nothing, or does not answer, is told from one that has nothing to say.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.audit.conftest import Database
from tests.toolchain import needed
from tools import pins
from tools.audit import go, npm, python, rust
from tools.audit.outcome import Checked, NotChecked
from tools.pins import ROOT, Pin
from tools.programs import ProgramFailed

pytestmark = pytest.mark.toolchains

RUSTSEC = "https://localhost/database"


def osv(name: str) -> dict[str, Any]:
    """What OSV says of each version of a package."""
    affected = [{"package": {"name": name, "ecosystem": "PyPI"}}]
    told = {"summary": f"{name} is bad", "aliases": ["CVE-1"], "affected": affected}
    return {"id": "PYSEC-1", **told}


def ask_osv(database: Database, monkeypatch: pytest.MonkeyPatch) -> Checked:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", database.address)
    return python.check()


def npm_advisory(name: str) -> dict[str, Any]:
    """What npm's registry says of each version of a package."""
    address = "https://github.com/advisories/GHSA-1"
    told = {"title": f"{name} is bad", "severity": "high", "vulnerable_versions": "*"}
    score = {"score": 0, "vectorString": None}
    return {"id": 1, "url": address, "cwe": [], "cvss": score, **told}


def ask_npm(database: Database, monkeypatch: pytest.MonkeyPatch) -> Checked:
    needed("npm")
    monkeypatch.setenv("npm_config_registry", database.address)
    # Else what an earlier test was told.
    monkeypatch.setenv("npm_config_prefer_online", "true")
    return npm.check()


class Server(NamedTuple):
    """A tool that asks a server.

    advisory: what the server says of a package; pinned: a package of ours; first_id: the advisory's
    name as the tool reports it.
    """

    ask: Callable[[Database, pytest.MonkeyPatch], Checked]
    advisory: Callable[[str], dict[str, Any]]
    known_bad: Pin
    pinned: str
    first_id: str


every_server = pytest.mark.parametrize(
    "server",
    [
        Server(ask_osv, osv, python.KNOWN_BAD, "grpcio", "PYSEC-1"),
        Server(ask_npm, npm_advisory, npm.KNOWN_BAD, "@grpc/grpc-js", "GHSA-1"),
    ],
    ids=["pip-audit", "npm audit"],
)


@every_server
def test_what_a_server_knows_is_found(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = (server.known_bad.name, server.pinned)
    database.known = {name: server.advisory(name) for name in names}
    checked = server.ask(database, monkeypatch)
    found = {(one.package, one.ids[0], one.title) for one in checked.findings}
    # This database calls each version bad, and a list may have a later one of what is.
    assert {one for one in found if one[0] != server.known_bad.name} == {
        (server.pinned, server.first_id, f"{server.pinned} is bad")
    }
    assert checked.packages > 100


@every_server
def test_a_server_that_does_not_know_the_known_is_no_check(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotChecked, match=f"knows nothing about {server.known_bad.name}"):
        server.ask(database, monkeypatch)


@every_server
def test_a_server_that_answers_with_an_error_is_no_check(
    server: Server, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.is_down = True
    with pytest.raises(NotChecked, match=r"ServiceError|503"):
        server.ask(database, monkeypatch)


@pytest.fixture
def git_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git gets the database from tmp_path: cargo-deny takes only addresses with a domain."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{(tmp_path / 'database').as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", RUSTSEC)


def rustsec(root: Path, *known: Pin) -> Path:
    """Make a database of RustSec's form; returns the client's deny.toml with its address."""
    database = root / "database"
    for number, pin in enumerate(known, start=1):
        advisory = database / f"crates/{pin.name}/RUSTSEC-2026-000{number}.md"
        advisory.parent.mkdir(parents=True)
        advisory.write_text(
            f'```toml\n[advisory]\nid = "RUSTSEC-2026-000{number}"\npackage = "{pin.name}"\n'
            'date = "2026-01-01"\naliases = ["CVE-1"]\n[versions]\npatched = []\n```\n\n'
            f"# {pin.name} is bad\n\nVery.\n"
        )
    git = ("git", "-C", str(database), "-c", "user.name=t", "-c", "user.email=t@example.org")
    for command in (("init", "--initial-branch=main"), ("add", "."), ("commit", "-m", "all")):
        subprocess.run([*git, *command], check=True, capture_output=True)
    config = root / "deny.toml"
    where = f'[advisories]\ndb-path = "{root}/fetched"\ndb-urls = ["{RUSTSEC}"]\n'
    config.write_text((rust.CLIENT / "deny.toml").read_text().replace("[advisories]\n", where))
    return config


@pytest.mark.usefixtures("git_knows")
def test_what_rustsec_knows_is_found(tmp_path: Path) -> None:
    needed("cargo", "git")
    checked = rust.check(rustsec(tmp_path, rust.KNOWN_BAD, Pin("fastrand", "2")))
    found = {(one.package, one.ids, one.title) for one in checked.findings}
    # The client needs another version of what is known to be bad.
    assert {one for one in found if one[0] != rust.KNOWN_BAD.name} == {
        ("fastrand", ("RUSTSEC-2026-0002", "CVE-1"), "fastrand is bad")
    }
    assert checked.packages > 50


@pytest.mark.usefixtures("git_knows")
def test_a_rustsec_that_does_not_know_the_known_or_is_not_there_is_no_check(
    tmp_path: Path,
) -> None:
    needed("cargo", "git")
    config = rustsec(tmp_path, Pin("another", "1"))
    with pytest.raises(NotChecked, match="knows nothing about smallvec"):
        rust.check(config)
    shutil.rmtree(tmp_path / "database")
    with pytest.raises(NotChecked, match="failed to fetch"):
        rust.check(config)


def go_database(root: Path, *known: tuple[Pin, str, str]) -> str:
    """Make a database of the form of Go's; known: a module, a package of it, and a function."""
    modules = []
    for number, (pin, package, function) in enumerate(known, start=1):
        name, modified = f"GO-2026-000{number}", "2026-01-01T00:00:00Z"
        imports = {"imports": [{"path": package, "symbols": [function]}]}
        ranges = [{"type": "SEMVER", "events": [{"introduced": "0"}]}]
        affected = {
            "package": {"name": pin.name, "ecosystem": "Go"},
            "ranges": ranges,
            "ecosystem_specific": imports,
        }
        advisory = {
            "schema_version": "1.3.1",
            "id": name,
            "modified": modified,
            "published": modified,
            "aliases": ["CVE-1"],
            "summary": f"{function} is bad",
            "details": "Very.",
            "affected": [affected],
        }
        (root / "ID").mkdir(exist_ok=True)
        (root / f"ID/{name}.json").write_text(json.dumps(advisory))
        modules.append({"path": pin.name, "vulns": [{"id": name, "modified": modified}]})
    (root / "index").mkdir()
    (root / "index/modules.json").write_text(json.dumps(modules))
    (root / "index/db.json").write_text(json.dumps({"modified": "2026-01-01T00:00:00Z"}))
    return root.as_uri()


KNOWN_TO_GO = (go.KNOWN_BAD, "golang.org/x/text/language", "Parse")


def grpc(function: str) -> tuple[Pin, str, str]:
    return Pin("google.golang.org/grpc", "v1"), "google.golang.org/grpc", function


def ask_go_of(
    modules: list[str], database: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[str, ...]]:
    """Return where something was found, under which names."""
    needed("go")
    monkeypatch.setattr(go, "MODULES", {ROOT / one: go.MODULES[ROOT / one] for one in modules})
    return {one.where: one.ids for one in go.check(database).findings}


def test_what_is_called_and_known_to_go_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = ["clients/go", "tools/go/grpc-health-probe", "tools/go/actionlint"]
    database = go_database(tmp_path, KNOWN_TO_GO, grpc("NewClient"))
    ids = ("GO-2026-0002", "CVE-1")
    assert ask_go_of(modules, database, monkeypatch) == {
        "clients/go/go.mod": ids,
        "tools/go/grpc-health-probe/go.mod": ids,
    }


def test_what_is_known_to_go_and_not_called_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = go_database(tmp_path, KNOWN_TO_GO, grpc("NobodyCallsIt"))
    assert ask_go_of(["clients/go"], database, monkeypatch) == {}


def test_a_go_database_that_does_not_know_the_known_or_is_not_there_is_no_check(
    tmp_path: Path,
) -> None:
    needed("go")
    address = go_database(tmp_path)
    with pytest.raises(NotChecked, match="knows nothing about golang"):
        go.check(address)
    with pytest.raises(ProgramFailed, match="govulncheck failed"):
        go.check(f"{address}/none")


def test_every_go_module_is_checked() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*go.mod"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {(ROOT / name).parent for name in listed.stdout.split()}
    assert tracked <= set(go.MODULES)
    assert all(pins.of_go_module(module / "go.mod") for module in go.MODULES)
