"""Claims about what a front sends to its members, and what it tells of their answers."""

from pathlib import Path

import grpc
import pytest

from pool_service.access.tokens import digest, new_token
from pool_service.v1 import pool_service_pb2 as pb
from tests.fleet.rpc.front_in_process import ScriptedMember, front_over

pytestmark = pytest.mark.process


async def test_a_pull_that_is_not_valid_asks_no_member(tmp_path: Path) -> None:
    members = ScriptedMember("a"), ScriptedMember("b")
    async with front_over(tmp_path, *members) as front:
        for request in (
            pb.PullRequest(model=""),
            pb.PullRequest(model="m", runtime_model="bad\nname"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await front.Pull(request).read()
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    for member in members:
        assert not member.requests("Offer")
        assert not member.requests("Pull")


async def test_a_pull_over_the_limit_of_its_caller_asks_no_member(tmp_path: Path) -> None:
    token, member = new_token(), ScriptedMember("a")
    sha256 = digest(token)
    assert sha256 is not None
    client = f'token_sha256 = "{sha256.hex()}"\nscope = "use"\nmax_streams = 0\n'
    async with front_over(tmp_path, member, more=f"[clients.one]\n{client}") as front:
        shown = (("authorization", f"Bearer {token}"),)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await front.Pull(pb.PullRequest(model="m"), metadata=shown).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not member.requests("Offer")
