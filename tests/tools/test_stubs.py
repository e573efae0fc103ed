"""The generated stubs may live in one process, and packages have the proto file with them."""

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pool_service.v1 import pool_service_pb2 as service_pb
from pool_service_client.v1 import pool_service_pb2 as client_pb
from tests.toolchain import trouble_with
from tools import generate_stubs

CLIENT = Path(client_pb.__file__).resolve().parent
ROOT = Path(__file__).resolve().parents[2]
FILE = "pool_service/v1/pool_service.proto"
DESCRIBED = "pool_service/v1/described.binpb"


def test_both_are_one_descriptor() -> None:
    assert service_pb.DESCRIPTOR is client_pb.DESCRIPTOR
    request = client_pb.EnsureRequest(model="m")
    assert service_pb.EnsureRequest.FromString(request.SerializeToString()).model == "m"


def test_the_client_imports_nothing_of_the_service() -> None:
    for path in CLIENT.glob("*.py*"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if "import" in line and " pool_service.v1" in line]


def test_the_proto_file_is_there_once() -> None:
    listed = run(ROOT, "git", "ls-files", "*.proto").split()
    # The other one is what a front asks of etcd.
    assert listed == ["pool_service/fleet/engines/etcd/etcd.proto", f"proto/{FILE}"]


@pytest.mark.process
@pytest.mark.parametrize(
    ("project", "carried", "source"),
    [
        (ROOT / "clients/python", f"pool_service_client/proto/{FILE}", ROOT / "proto" / FILE),
        (ROOT, DESCRIBED, ROOT / DESCRIBED),
    ],
    ids=["the client: the proto file", "the service: what reflection tells"],
)
def test_a_wheel_that_is_built_from_an_sdist_has_what_is_no_python(
    project: Path, carried: str, source: Path, tmp_path: Path
) -> None:
    if source.name == generate_stubs.DESCRIBED.name:
        generate_stubs.describe()
    build = (sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path))
    run(project, *build, "-t", "sdist")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        files.extractall(tmp_path, filter="data")
    run(tmp_path / sdist.name.removesuffix(".tar.gz"), *build, "-t", "wheel")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(carried) == source.read_bytes()


@pytest.mark.process
def test_the_sdist_of_the_service_has_the_proto_file(tmp_path: Path) -> None:
    run(ROOT, sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path), "-t", "sdist")
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        assert f"{sdist.name.removesuffix('.tar.gz')}/proto/{FILE}" in files.getnames()


@pytest.mark.process
def test_the_npm_package_has_the_proto_file() -> None:
    needs("npm")
    client = ROOT / "clients/typescript"
    # Alone: its script also builds the package, for which it installs what that needs.
    run(client, "make", "proto")
    told = run(client, "npm", "pack", "--dry-run", "--json", "--ignore-scripts")
    (package,) = json.loads(told)
    assert f"proto/{FILE}" in [file["path"] for file in package["files"]]
    copied = client / "proto" / FILE
    assert copied.read_bytes() == (ROOT / "proto" / FILE).read_bytes()


@pytest.mark.process
def test_the_crate_has_the_proto_file() -> None:
    needs("cargo")
    crate = ROOT / "clients/rust"
    command = ("cargo", "package", "--list", "--allow-dirty", "--package", "pool-service-client")
    assert f"proto/{FILE}" in run(crate, *command).split()
    # Cargo follows the link.
    assert (crate / "proto" / FILE).read_bytes() == (ROOT / "proto" / FILE).read_bytes()


def needs(program: str) -> None:
    if (trouble := trouble_with(program)) and not os.environ.get("CI"):
        pytest.skip(trouble)


def run(directory: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
