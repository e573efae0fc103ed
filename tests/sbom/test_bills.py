"""What `make sbom` writes, held against the lists and locks as they are."""

import json
import re
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.toolchain import needed
from tools.pins import ROOT
from tools.sbom import __main__ as sbom
from tools.set_version import version

pytestmark = pytest.mark.toolchains

REQUIREMENTS = ROOT / "packaging/requirements"
OWN = ("pool-service-client", version())
FILES = {
    f"{name}.cdx.json"
    for name in (
        "pool-service",
        *(
            f"pool-service-{extra}"
            for extra in ("fleet", "gateway", "kubernetes", "otel", "runtime")
        ),
        *(f"pool-service-client-{language}" for language in ("go", "python", "rust", "typescript")),
    )
}

Named = set[tuple[str, str]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needed("go", "cargo", "npm")
    directory = tmp_path_factory.mktemp("bills")
    assert sbom.main([str(directory)]) == 0
    return directory


def read(directory: Path, name: str) -> dict[str, Any]:
    bill: dict[str, Any] = json.loads((directory / f"{name}.cdx.json").read_text())
    return bill


def named(bill: dict[str, Any]) -> Named:
    return {(one["name"], one["version"]) for one in bill["components"]}


def in_list(path: Path) -> Named:
    lines = (line.split() for line in path.read_text().splitlines() if re.match(r"\w", line))
    return {(name, version) for name, _, version in (line[0].partition("==") for line in lines)}


def test_each_thing_that_is_shipped_has_its_bill(directory: Path) -> None:
    assert {path.name for path in directory.iterdir()} == FILES
    for name in FILES:
        root = json.loads((directory / name).read_text())["metadata"]["component"]
        assert root["version"].removeprefix("v") == version()
        assert "pool-service" in root["name"]


@pytest.mark.parametrize(
    ("name", "path", "beside"),
    [
        ("pool-service", REQUIREMENTS / "service.txt", {OWN}),
        ("pool-service-otel", REQUIREMENTS / "otel.txt", {OWN}),
        ("pool-service-fleet", REQUIREMENTS / "fleet.txt", {OWN}),
        ("pool-service-kubernetes", REQUIREMENTS / "kubernetes.txt", {OWN}),
        ("pool-service-gateway", REQUIREMENTS / "gateway.txt", {OWN}),
        ("pool-service-runtime", ROOT / "pool_service/runtime_requirements.txt", set()),
        ("pool-service-client-python", REQUIREMENTS / "client.txt", set()),
    ],
    ids=["service", "otel", "fleet", "kubernetes", "gateway", "runtime", "client"],
)
def test_a_bill_of_python_packages_names_what_the_list_pins_by_its_hashes(
    name: str, path: Path, beside: Named, directory: Path
) -> None:
    bill = read(directory, name)
    assert named(bill) == in_list(path) | beside
    hashes = {
        one["content"]
        for component in bill["components"]
        for reference in component.get("externalReferences", [])
        for one in reference.get("hashes", [])
    }
    assert hashes == set(re.findall(r"--hash=sha256:(\w+)", path.read_text()))


def test_the_bill_of_the_go_client_names_what_go_mod_requires_but_for_the_tests(
    directory: Path,
) -> None:
    required = re.findall(r"\t(\S+) (v\S+)", (ROOT / "clients/go/go.mod").read_text())
    shipped = {(name, version) for name, version in required if name != "go.uber.org/goleak"}
    assert named(read(directory, "pool-service-client-go")) == shipped


def test_the_bill_of_the_typescript_client_names_what_the_lock_has_for_production(
    directory: Path,
) -> None:
    lock = json.loads((ROOT / "clients/typescript/package-lock.json").read_text())
    shipped = {
        (place.removeprefix("node_modules/"), one["version"])
        for place, one in lock["packages"].items()
        if place and "dev" not in one
    }
    bill = read(directory, "pool-service-client-typescript")
    assert named(bill) == shipped
    assert all(one["hashes"] for one in bill["components"])


def test_the_bill_of_the_rust_client_names_what_it_is_built_of(directory: Path) -> None:
    bill = read(directory, "pool-service-client-rust")
    manifest = tomllib.loads((ROOT / "clients/rust/Cargo.toml").read_text())
    assert {name for name, _ in named(bill)} >= set(manifest["dependencies"])
    lock = ROOT / "clients/rust/Cargo.lock"
    if lock.exists():
        built = tomllib.loads(lock.read_text())["package"]
        assert named(bill) <= {(one["name"], one["version"]) for one in built}
    assert all(one["hashes"] for one in bill["components"])


def test_bills_that_are_made_again_are_the_same_and_tell_nothing_of_the_machine(
    directory: Path, tmp_path: Path
) -> None:
    assert sbom.main([str(tmp_path)]) == 0
    for name in FILES:
        text = (directory / name).read_text()
        assert (tmp_path / name).read_text() == text
        for place in (str(ROOT), tempfile.gettempdir(), str(Path.home())):
            assert place not in text, name
