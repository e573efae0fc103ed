"""Claims about the messages of members, as the front keeps them and passes them on."""

import pytest

from pool_service.fleet.members import messages
from pool_service.v1 import pool_service_pb2 as pb


@pytest.mark.parametrize(
    "sent",
    [
        pb.Server(),
        pb.Server(model="m", generation=3, state=pb.SERVER_STATE_QUEUED),
        pb.Server(
            model="m",
            runtime_model="org/m-4bit",
            served_model_name="m",
            generation=300,
            state=pb.SERVER_STATE_READY,
            endpoint="http://10.0.0.1:20000",
            expected_bytes=2**33,
            host="studio",
        ),
    ],
    ids=["empty", "queued", "ready"],
)
def test_a_server_is_passed_on_as_its_member_has_sent_it(sent: pb.Server) -> None:
    expected = pb.Server.FromString(sent.SerializeToString())
    seen = messages.seen("studio", sent, 7)
    assert (seen.model, seen.runtime_model) == (expected.model, expected.runtime_model)
    assert messages.as_sent(seen) == expected


def test_the_names_of_a_server_are_kept_once() -> None:
    sent = pb.Server(model="org/model-of-many", runtime_model="org/model-of-many-4bit")
    seen = messages.seen("studio", sent, 7)
    assert isinstance(seen.message, bytes)
    assert b"model-of-many" not in seen.message
