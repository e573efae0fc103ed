"""Claims about what a front sends to its members, and what it tells of their answers."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from pool_service.access.tokens import digest, new_token
from pool_service.core.errors import (
    ModelUnknown,
    PoolError,
    PoolUnreachable,
    QuotaExceeded,
    ShuttingDown,
    StaleFleet,
    TooManyPins,
)
from pool_service.fleet.rpc.errors import reason_of
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tests.fleet.rpc.front_in_process import LIMIT_S, ScriptedMember, front_over

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


def client(rights: str) -> tuple[tuple[tuple[str, str]], str]:
    """Return what a client shows, and its section in a configuration. rights: more lines of it."""
    token = new_token()
    sha256 = digest(token)
    assert sha256 is not None
    section = f'[clients.one]\ntoken_sha256 = "{sha256.hex()}"\nscope = "use"\n{rights}\n'
    return (("authorization", f"Bearer {token}"),), section


async def test_a_pull_over_the_limit_of_its_caller_asks_no_member(tmp_path: Path) -> None:
    member = ScriptedMember("a")
    shown, section = client("max_streams = 0")
    async with front_over(tmp_path, member, more=section) as front:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await front.Pull(pb.PullRequest(model="m"), metadata=shown).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not member.requests("Offer")


async def test_only_calls_that_wait_for_a_server_count_as_waiting(tmp_path: Path) -> None:
    member = ScriptedMember("a")
    member.answers["List"] = pb.ListResponse(revision=1, servers=[ready("a", "warm")])
    member.answers["Ensure"] = pb.EnsureResponse(server=ready("a", "warm"))
    shown, section = client("max_waiting = 0")
    async with front_over(tmp_path, member, more=section) as front:
        answer = await front.Ensure(pb.EnsureRequest(model="warm"), metadata=shown)
        assert answer.server.host == "a"
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await front.Ensure(pb.EnsureRequest(model="cold"), metadata=shown)
        assert reason_of(error.value) == QuotaExceeded.REASON
    assert not member.requests("Offer")


CHANGES = {
    "Pin": (pb.PinRequest(model="m", pinned=True), pb.PinResponse(pinned=True, changed=True)),
    "Forget": (pb.ForgetRequest(model="m"), pb.ForgetResponse(runtime_model="org/m")),
    "Evict": (pb.EvictRequest(all=True), pb.EvictResponse()),
}
"""Changes at all members: each one's request and the answer of a member."""

changes = pytest.mark.parametrize("method", list(CHANGES))


async def changed(directory: Path, method: str, refusal: PoolError) -> Any:  # noqa: ANN401 - of any method
    """Return what a front answers to a change that one of two members refuses."""
    request, answer = CHANGES[method]
    members = ScriptedMember("a"), ScriptedMember("b")
    members[0].answers[method], members[1].answers[method] = answer, refusal
    async with front_over(directory, *members) as front:
        return await getattr(front, method)(request)


@changes
async def test_a_change_that_a_member_has_not_answered_is_no_success(
    tmp_path: Path, method: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await changed(tmp_path, method, ShuttingDown("it ends"))
    assert reason_of(error.value) == "POOL_UNREACHABLE"
    assert error.value.details() == (
        "this was done on a, and may not have been done elsewhere (b: it ends). Try again."
    )


@changes
async def test_a_change_that_a_member_refuses_is_no_success(tmp_path: Path, method: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await changed(tmp_path, method, TooManyPins("enough"))
    assert reason_of(error.value) == TooManyPins.REASON


async def test_a_model_that_one_member_knows_alone_can_be_pinned(tmp_path: Path) -> None:
    answer = await changed(tmp_path, "Pin", ModelUnknown("not here", model="m"))
    assert answer.pinned


def ready(host: str, model: str = "m") -> pb.Server:
    """Return a server that callers get."""
    return pb.Server(
        model=model,
        host=host,
        generation=1,
        state=pb.SERVER_STATE_READY,
        role=pb.SERVER_ROLE_CURRENT,
    )


async def test_a_list_says_which_members_have_refused_it(tmp_path: Path) -> None:
    members = ScriptedMember("a"), ScriptedMember("b")
    for member in members:
        member.answers["List"] = pb.ListResponse(revision=1, servers=[ready(member.host)])
    refusal = QuotaExceeded("too many.", limit="waiting", most=1, retry_after=1.0)
    async with front_over(tmp_path, *members) as front:
        members[1].answers["List"] = refusal
        listed = await front.List(pb.ListRequest())
        assert [one.host for one in listed.servers] == ["a"]
        assert "b: not listed here: too many." in listed.notices
        members[0].answers["List"] = refusal
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await front.List(pb.ListRequest())
        assert reason_of(error.value) == QuotaExceeded.REASON


async def test_callers_of_a_front_that_has_not_heard_of_the_leader_try_again(
    tmp_path: Path,
) -> None:
    member = ScriptedMember("a")
    member.answers["List"] = pb.ListResponse(revision=1, servers=[ready("a")])
    stale = StaleFleet("follow the other front", epoch=9, front="x")
    member.answers |= {"Get": stale, "Pin": stale}
    async with front_over(tmp_path, member) as front:
        member.answers["List"] = stale
        calls = (
            front.Get(pb.GetRequest(model="m")),
            front.Pin(pb.PinRequest(model="m")),
            front.List(pb.ListRequest()),
        )
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call
            assert reason_of(error.value) == PoolUnreachable.REASON


async def test_no_answer_tells_whether_there_is_a_model_that_its_caller_may_not_know_of(
    tmp_path: Path,
) -> None:
    members = ScriptedMember("a"), ScriptedMember("b")
    members[0].answers["List"] = pb.ListResponse(revision=1, servers=[ready("a", "secret")])
    for member in members:
        for method in ("Get", "Describe", "Evict"):
            member.answers[method] = ModelUnknown("there is no such model", model="")
    shown, section = client('models = ["open-*"]')
    async with front_over(tmp_path, *members, more=section) as front:

        async def check() -> None:
            for name in ("secret", "no-such-model"):
                for call in (
                    front.Get(pb.GetRequest(model=name), metadata=shown),
                    front.Describe(pb.DescribeRequest(model=name), metadata=shown),
                    front.Evict(pb.EvictRequest(model=name), metadata=shown),
                ):
                    with pytest.raises(grpc.aio.AioRpcError) as error:
                        await call
                    assert reason_of(error.value) == ModelUnknown.REASON

        await check()
        # From now on it answers no beat.
        del members[0].answers["Beat"]
        await until_noticed(front, "a: ")
        members[0].answers |= dict.fromkeys(("Get", "Describe", "Evict"), ShuttingDown("it ends"))
        await check()
        # Those who may know of it wait for the host.
        for waiting in (
            front.Ensure(pb.EnsureRequest(model="secret"), metadata=shown),
            front.Hold(pb.HoldRequest(model="secret"), metadata=shown).read(),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await waiting
            assert reason_of(error.value) == ModelUnknown.REASON


async def test_a_member_that_cannot_be_called_is_told_as_such(tmp_path: Path) -> None:
    gone, other = ScriptedMember("a"), ScriptedMember("b")
    gone.answers["List"] = pb.ListResponse(revision=1, servers=[ready("a")])
    async with front_over(tmp_path, gone, other) as front:
        await gone.stop()
        await until_noticed(front, "a: ")
        for call in (
            front.TailLogs(pb.TailLogsRequest(model="m")),
            front.Pull(pb.PullRequest(model="m")),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.read()
            assert reason_of(error.value) == PoolUnreachable.REASON


async def test_an_eviction_at_a_host_that_vanishes_names_it(tmp_path: Path) -> None:
    members = ScriptedMember("a"), ScriptedMember("b")
    for member in members:
        here = ready(member.host)
        member.answers["List"] = pb.ListResponse(revision=1, servers=[here])
        member.answers["Evict"] = pb.EvictResponse(evicted=[pb.EvictedServer(server=here)])
    async with front_over(tmp_path, *members) as front:
        evicted = await front.Evict(pb.EvictRequest(model="m"))
        assert {one.server.host for one in evicted.evicted} == {"a", "b"}
        # From now on it answers no beat.
        del members[1].answers["Beat"]
        await until_noticed(front, "b: ")
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await front.Evict(pb.EvictRequest(model="m"))
    assert "done on a" in (error.value.details() or "")
    assert "(b: it is not seen now)" in (error.value.details() or "")


async def until_noticed(front: "pb_grpc.PoolServiceAsyncStub", beginning: str) -> None:
    """Return once a front has a notice that begins so."""
    while True:
        listed = await front.List(pb.ListRequest())
        if any(notice.startswith(beginning) for notice in listed.notices):
            return
        await asyncio.sleep(0.05)


class ObeyingMember(ScriptedMember):
    """A member that has heard who leads."""

    async def Beat(  # noqa: N802 - its name on the wire
        self, request: pb.BeatRequest, _context: object
    ) -> pb.BeatResponse:
        return pb.BeatResponse(
            host=self.host, reachable=True, epoch=request.epoch, front=request.front
        )


async def test_calls_go_elsewhere_from_a_member_that_is_ending(tmp_path: Path) -> None:
    """A member can take minutes to end, and several calls keep each other's place."""
    ending, other = ObeyingMember("a"), ObeyingMember("b")
    fits = pb.OfferResponse(verdict=pb.OFFER_VERDICT_FITS, model="m", on_disk=True)
    ending.answers["Offer"] = fits
    other.answers["Offer"] = pb.OfferResponse(verdict=pb.OFFER_VERDICT_WAITS, model="m")
    ending.answers["Ensure"] = ShuttingDown("it ends")
    other.answers["Ensure"] = pb.EnsureResponse(server=pb.Server(model="m", host="b"))
    async with front_over(tmp_path, ending, other) as front, asyncio.timeout(LIMIT_S):
        calls = [front.Ensure(pb.EnsureRequest(model="m")) for _ in range(3)]
        while len(ending.requests("Ensure")) < len(calls):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
        ending.answers["Offer"] = pb.OfferResponse(
            verdict=pb.OFFER_VERDICT_NEVER, model="m", reason=ShuttingDown.REASON
        )
        assert {(await call).server.host for call in calls} == {"b"}
