"""The generated stubs: the service's and the client's may live in one process."""

from pathlib import Path

from pool_service.v1 import pool_service_pb2 as service_pb
from pool_service_client.v1 import pool_service_pb2 as client_pb

CLIENT = Path(client_pb.__file__).resolve().parent


def test_both_are_one_descriptor() -> None:
    assert service_pb.DESCRIPTOR is client_pb.DESCRIPTOR
    request = client_pb.EnsureRequest(model="m")
    assert service_pb.EnsureRequest.FromString(request.SerializeToString()).model == "m"


def test_the_client_imports_nothing_of_the_service() -> None:
    for path in CLIENT.glob("*.py*"):
        lines = path.read_text().splitlines()
        assert not [line for line in lines if "import" in line and " pool_service.v1" in line]
