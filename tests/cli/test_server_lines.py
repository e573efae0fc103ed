"""Lines about servers, of values that change while they are written."""

from collections.abc import Callable

import pytest

from pool_service.cli import server_lines
from pool_service_client import Server
from pool_service_client.convert import server
from pool_service_client.v1 import pool_service_pb2 as pb


@pytest.mark.parametrize(
    "line", [server_lines.status_line, lambda one: server_lines.change_line(one, "STARTING")]
)
def test_a_start_that_becomes_ready_meanwhile_has_a_reason_or_none(
    monkeypatch: pytest.MonkeyPatch, line: Callable[[Server], str]
) -> None:
    """The time that is left is over from one moment to the next."""
    reasons = iter(["about 1 s left", ""])
    monkeypatch.setattr(server_lines, "state_reason", lambda _: next(reasons))
    starting = server(pb.Server(model="m", state=pb.SERVER_STATE_STARTING))
    assert line(starting).endswith(": about 1 s left")
