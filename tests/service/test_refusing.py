"""The answers to callers of a service that ends, by the stubs alone."""

import signal

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.service.conftest import FAKE_RUNTIME, Start

CALLS = 200


@pytest.mark.parametrize("kept", ["false", "true"])
def test_none_of_many_calls_at_the_end_is_dropped_without_a_word(start: Start, kept: str) -> None:
    """Send calls that have arrived when the service ends; gRPC begins one after the other.

    The service is suspended while they are sent, so that none arrives after its end.
    """
    service = start(f"service.keep_servers = {kept}\n{FAKE_RUNTIME}")
    with grpc.insecure_channel(service.address) as channel:
        stub = pb_grpc.PoolServiceStub(channel)
        stub.Ensure(pb.EnsureRequest(model="m"))
        service.process.send_signal(signal.SIGSTOP)
        calls = [stub.Ensure.future(pb.EnsureRequest(model="m")) for _ in range(CALLS)]
        service.process.terminate()
        service.process.send_signal(signal.SIGCONT)
        refused = [call for call in calls if call.code() is not grpc.StatusCode.OK]
        assert {call.code() for call in refused} == {grpc.StatusCode.UNAVAILABLE}
        assert all("the service is shutting down" in call.details() for call in refused)
    assert service.process.wait(60) == 0
    start()  # which ends what was left
