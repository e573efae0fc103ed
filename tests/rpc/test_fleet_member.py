"""Beat and EndHold: only for fronts; a beat tells how the member is, also while it recovers."""

from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

import pytest

from pool_service.access.fleet import FleetSettings
from pool_service.access.principal import ModelPatterns, Principal, Scope
from pool_service.core.limits import Limits
from pool_service.core.results import Reloaded
from pool_service.core.types import Settings
from pool_service.rpc.redaction import PROBLEM, redacted
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.bare import fence
from tests.rpc.serving import Service, failure, serving
from tests.rpc.test_fleet_calls import TOKENS, rules
from tests.world import Script, settled

MEMBER = FleetSettings("mac-1", "10.0.0.11", hold_grace_s=7.5)


def shows(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {TOKENS[token]}"),)


async def beat(service: Service, epoch: int = 0, front: str = "f") -> pb.BeatResponse:
    answer: pb.BeatResponse = await service.member.Beat(pb.BeatRequest(epoch=epoch, front=front))
    return answer


@pytest.mark.parametrize("method", ["Beat", "Offer", "EndHold"])
async def test_only_fronts_may_call_a_member(method: str) -> None:
    request = getattr(pb, f"{method}Request")()
    async with serving(rules=rules()) as service:
        call = getattr(service.member, method)(request, metadata=shows("engine"))
        refused = await failure(call)
        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
        assert refused.details["ErrorInfo"].metadata["needed"] == "fleet"
    async with serving(rules=rules()) as service:
        await service.member.Beat(pb.BeatRequest(), metadata=shows("narrow"))


async def test_a_beat_tells_how_the_member_is() -> None:
    async with serving(fleet=MEMBER) as service:
        await service.ensure("m")
        answer = await beat(service, 7, "f-1")
        assert (answer.host, answer.reachable, answer.version) == (
            "mac-1",
            True,
            version("pool-service"),
        )
        assert (answer.epoch, answer.front) == (7, "f-1")
        assert answer.HasField("front_heard")
        assert answer.totals.ready == 1
        assert answer.hold_grace.ToTimedelta().total_seconds() == 7.5
        service.world.records.degraded_reason = "the disk is full"
        notices = list((await beat(service)).notices)
        service.world.records.degraded_reason = ""
        assert notices == ["the disk is full"]


async def test_a_member_without_an_address_for_others_says_that_it_cannot_be_reached() -> None:
    async with serving() as service:
        answer = await beat(service)
        assert (answer.host, answer.reachable, answer.epoch) == ("", False, 0)
        assert not answer.HasField("front_heard")


async def test_a_beat_is_answered_while_the_pool_recovers_and_then_without_totals() -> None:
    async with serving(recovers=False) as service:
        assert (await failure(service.ensure("m"))).reason == "RECOVERING"
        answer = await beat(service, 7)
        assert (answer.epoch, answer.HasField("totals")) == (7, False)


async def test_a_leader_of_an_old_epoch_is_told_who_leads() -> None:
    seen = fence()
    async with serving(fence=seen) as service:
        await beat(service, 8, "f-new")
        request = pb.BeatRequest(epoch=7, front="f-old")
        stale = await failure(service.member.Beat(request))
        assert (stale.code, stale.reason) == ("FAILED_PRECONDITION", "STALE_FLEET")
        assert stale.details["ErrorInfo"].metadata == {"epoch": "8", "front": "f-new"}
        asked = await beat(service, 0, "f-old")
        assert (asked.epoch, asked.front) == (8, "f-new")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.BeatRequest(epoch=7), "INVALID_FRONT"),
        (pb.BeatRequest(epoch=2**62 + 1, front="f"), "INVALID_EPOCH"),
        (pb.BeatRequest(front="x" * 129), "INVALID_FRONT"),
        (pb.EndHoldRequest(), "INVALID_HOLD"),
        (pb.EndHoldRequest(hold="a\nb"), "INVALID_HOLD"),
        (pb.OfferRequest(), "INVALID_MODEL"),
    ],
)
async def test_fields_are_checked(request_: Any, reason: str) -> None:  # noqa: ANN401
    method = type(request_).__name__.removesuffix("Request")
    async with serving() as service:
        refused = await failure(getattr(service.member, method)(request_))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", reason)


async def test_a_hold_that_is_not_there_is_ended_already() -> None:
    async with serving() as service:
        await service.member.EndHold(pb.EndHoldRequest(hold="none"))


# --- the catalogue ------------------------------------------------------------------------------

Change = Callable[[Service], Coroutine[Any, Any, object]]


async def reload(service: Service) -> Reloaded:
    catalogue = service.pool._machine.catalogue
    changed = type(catalogue)(catalogue.defaults, {"n": Settings("n")}, catalogue.aliases)
    return await service.pool.reload(changed, service.pool._machine.limits)


async def name_a_runtime_model(service: Service) -> object:
    return await service.ensure("other", "org/other")


async def forget(service: Service) -> object:
    return await service.stub.Forget(pb.ForgetRequest(model="named"))


async def download(service: Service) -> object:
    service.world.script("m", Script(on_disk=False))
    return [each async for each in service.stub.Pull(pb.PullRequest(model="m"))]


async def learn_what_it_takes(service: Service) -> object:
    service.world.script("m", Script(load=0.0, needs=5, takes=50))
    stream = service.stub.Hold(pb.HoldRequest(model="m"))
    await settled(lambda: bool(service.world.recorded))
    return stream.cancel()


@pytest.mark.parametrize(
    "change", [reload, name_a_runtime_model, forget, download, learn_what_it_takes]
)
async def test_a_change_of_the_catalogue_shows_in_the_next_beat(change: Change) -> None:
    async with serving(limits=Limits(sample_interval=0.01)) as service:
        await service.ensure("named", "org/named")
        before = (await beat(service)).catalogue
        assert (await beat(service)).catalogue == before
        await change(service)
        after = (await beat(service)).catalogue
        assert after not in ("", before)
        assert (await beat(service)).catalogue == after


async def test_a_look_and_a_start_are_no_change_of_the_catalogue() -> None:
    async with serving(models={"m": Settings("m")}) as service:
        before = (await beat(service)).catalogue
        await service.ensure("m")
        await service.stub.ListModels(pb.ListModelsRequest(found=True))
        assert (await beat(service)).catalogue == before


async def test_another_service_has_another_catalogue() -> None:
    async with serving() as one, serving() as two:
        assert (await beat(one)).catalogue != (await beat(two)).catalogue


# --- what a front may not know ------------------------------------------------------------------


def test_a_front_of_some_models_gets_no_text_that_can_name_others() -> None:
    narrow = Principal("f", Scope.ADMIN, logs=True, models=ModelPatterns(("m*",)), fleet=True)
    told = redacted(pb.BeatResponse(host="h", notices=["secret"], catalogue="x"), narrow)
    assert told == pb.BeatResponse(host="h", catalogue="x")
    offer = pb.OfferResponse(reason="MODEL_NOT_ON_DISK", message="Did you mean 'secret'?")
    told_offer = redacted(offer, narrow)
    assert told_offer == pb.OfferResponse(reason="MODEL_NOT_ON_DISK", message=PROBLEM)


async def test_what_a_front_may_not_use_is_never_offered() -> None:
    models = {name: Settings(name) for name in ("mine-a", "other")}
    async with serving(rules=rules(), models=models) as service:
        for request, reason in (
            (pb.OfferRequest(model="other"), "MODEL_UNKNOWN"),
            (pb.OfferRequest(model="none"), "MODEL_UNKNOWN"),
            (pb.OfferRequest(model="mine-a", runtime_model="/home"), "SCOPE_MISSING"),
        ):
            offer = await service.member.Offer(request, metadata=shows("narrow"))
            assert (offer.verdict, offer.reason) == (pb.OFFER_VERDICT_NEVER, reason)
        assert not service.world.events.of("call")
