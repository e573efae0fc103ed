"""The generated stubs: the service's and the client's may live in one process."""

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pool_service.v1 import pool_service_pb2 as service_pb
from pool_service_client.v1 import pool_service_pb2 as client_pb

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


@pytest.mark.process
@pytest.mark.parametrize(
    ("project", "carried", "source"),
    [
        (ROOT / "clients/python", f"pool_service_client/proto/{FILE}", ROOT / "proto" / FILE),
        (ROOT, DESCRIBED, ROOT / DESCRIBED),
    ],
    ids=["the client: the proto file", "the service: what reflection tells"],
)
def test_both_packages_carry_what_is_no_python(
    project: Path, carried: str, source: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(carried) == source.read_bytes()
    with tarfile.open(sdist) as files:
        inside = files.extractfile(f"{sdist.name.removesuffix('.tar.gz')}/{carried}")
        assert inside is not None
        assert inside.read() == source.read_bytes()
