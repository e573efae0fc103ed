"""Calls of fronts for their callers: who may make them, what they allow, and who is refused."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from pool_service.access import tokens
from pool_service.access.authentication import Local, Rules
from pool_service.access.clients import Client, Clients
from pool_service.access.fence import Fence
from pool_service.access.fleet import FleetSettings
from pool_service.access.principal import LOCAL, UNLIMITED, ModelPatterns, Principal, Scope
from pool_service.adapters.records.leader_file import LeaderFile
from pool_service.rpc import fleet_calls
from pool_service.rpc.json_calls import Caller, CallFailed, JsonCalls
from pool_service.v1 import pool_service_pb2 as pb
from tests.pool.running import DEFAULTS
from tests.rpc.bare import fence
from tests.rpc.serving import Failure, Service, failure, serving, settled_hold

Metadata = tuple[tuple[str, str | bytes], ...]

MODELS = dict.fromkeys(("mine-a", "mine-b", "other"), DEFAULTS)
TOKENS = {name: tokens.new_token() for name in ("front", "narrow", "engine")}


def rules() -> Rules:
    """A front that may do all, one that may use some models, and a caller that is no front."""
    mine = ModelPatterns(("mine*",))
    clients = (
        Principal("front", Scope.ADMIN, logs=True, limits=UNLIMITED, fleet=True),
        Principal("narrow", Scope.USE, models=mine, limits=UNLIMITED, fleet=True),
        Principal("engine", Scope.ADMIN, logs=True),
    )
    known = (Client(one, tokens.digest(TOKENS[one.name])) for one in clients)
    return Rules(Local.TOKEN, Clients(known))


def says(call: pb.FleetCall | bytes, token: str = "") -> Metadata:
    raw = call if isinstance(call, bytes) else call.SerializeToString()
    shown = (("authorization", f"Bearer {TOKENS[token]}"),) if token else ()
    return (("pool-fleet-bin", raw), *shown)


def caller(
    scope: str = "use", models: Sequence[str] = ("*",), *, logs: bool = False, epoch: int = 7
) -> pb.FleetCall:
    of_front = pb.FleetCaller(name="alice", scope=scope, logs=logs, models=models)
    return pb.FleetCall(epoch=epoch, front="f-1", caller=of_front)


async def names(service: Service, metadata: Metadata) -> list[str]:
    """The models that a caller may know of."""
    page = await service.stub.ListModels(pb.ListModelsRequest(), metadata=metadata)
    return [one.model for one in page.models]


# --- who may call for others ----------------------------------------------------------------


async def test_who_is_no_front_calls_for_nobody() -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        for call in (caller(), pb.FleetCall(), b""):
            metadata = says(call, "engine")
            refused = await failure(service.stub.List(pb.ListRequest(), metadata=metadata))
            assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
            assert "fleet = true" in refused.message
        watch = service.stub.Watch(pb.WatchRequest(), metadata=says(caller(), "engine"))
        assert (await failure(watch.read())).reason == "SCOPE_MISSING"


async def test_the_local_user_may_call_as_a_front() -> None:
    async with serving(models=MODELS) as service:
        assert await names(service, says(caller(models=["other"]))) == ["other"]
        assert await names(service, says(pb.FleetCall())) == sorted(MODELS)


@pytest.mark.parametrize("token", ["front", "narrow"])
async def test_a_front_without_a_caller_calls_for_itself(token: str) -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        seen = await names(service, says(pb.FleetCall(epoch=7, front="f"), token))
        assert seen == (sorted(MODELS) if token == "front" else ["mine-a", "mine-b"])


@pytest.mark.parametrize(
    ("call", "what"),
    [
        (b"\xff", "is no FleetCall"),
        (pb.FleetCall(epoch=7), "no front"),
        (pb.FleetCall(epoch=2**62 + 1, front="f"), "epoch"),
        (pb.FleetCall(front="a\nb"), "front"),
        (pb.FleetCall(hold="x" * 129), "hold"),
        (pb.FleetCall(least_generation=2**63), "least_generation"),
        (caller(scope="root"), "scope"),
        (caller(scope=""), "scope"),
        (pb.FleetCall(caller=pb.FleetCaller(scope="use")), "name"),
        (pb.FleetCall(caller=pb.FleetCaller(scope="use", name="a\u202eb")), "name"),
    ],
)
async def test_what_is_no_fleet_call_is_refused(call: pb.FleetCall | bytes, what: str) -> None:
    async with serving() as service:
        refused = await failure(service.stub.List(pb.ListRequest(), metadata=says(call)))
        assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "INVALID_FLEET_CALL")
        assert what in refused.message
        assert refused.details["BadRequest"].field_violations[0].field == "fleet_call"
        (kept,) = service.world.events.of("call")
        assert (kept["code"], kept["reason"]) == ("INVALID_ARGUMENT", "INVALID_FLEET_CALL")


async def test_two_fleet_calls_are_none() -> None:
    async with serving() as service:
        twice = says(pb.FleetCall()) * 2
        refused = await failure(service.stub.List(pb.ListRequest(), metadata=twice))
        assert refused.reason == "INVALID_FLEET_CALL"


# --- what a front's caller may do -------------------------------------------------------------


async def test_a_caller_knows_the_models_that_it_and_its_front_may_know() -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        for token, patterns, seen in (
            ("front", ["*"], ["mine-a", "mine-b", "other"]),
            ("front", ["other"], ["other"]),
            ("front", [], []),
            ("narrow", ["*"], ["mine-a", "mine-b"]),
            ("narrow", ["*a", "other"], ["mine-a"]),
        ):
            assert await names(service, says(caller(models=patterns), token)) == seen
            # The second is answered by what is kept of the first.
            assert await names(service, says(caller(models=patterns), token)) == seen


async def test_the_same_bytes_of_another_front_are_of_its_own_rights() -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        for token, count in (("front", 3), ("narrow", 2), ("front", 3)):
            assert len(await names(service, says(caller(), token))) == count


async def test_a_reload_changes_what_callers_may_do_though_their_bytes_are_kept() -> None:
    known = rules()
    async with serving(rules=known, models=MODELS) as service:
        metadata = says(caller(), "front")
        assert len(await names(service, metadata)) == 3
        only = Principal("front", Scope.READ, models=ModelPatterns(("other",)), fleet=True)
        token = tokens.digest(TOKENS["front"])
        known.clients = Clients([Client(only, token)])
        assert await names(service, metadata) == ["other"]
        refused = await failure(service.stub.Ensure(pb.EnsureRequest(), metadata=metadata))
        assert refused.reason == "SCOPE_MISSING"
        known.clients = Clients([Client(Principal("front", Scope.ADMIN), token)])
        refused = await failure(service.stub.List(pb.ListRequest(), metadata=metadata))
        assert refused.reason == "SCOPE_MISSING"


async def refused_ensure(service: Service, model: str, metadata: Metadata) -> Failure:
    return await failure(service.stub.Ensure(pb.EnsureRequest(model=model), metadata=metadata))


async def test_the_lower_scope_of_the_two_counts() -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        reader = says(caller("read"), "front")
        assert (await refused_ensure(service, "mine-a", reader)).reason == "SCOPE_MISSING"
        admin = says(caller("admin", logs=True), "narrow")
        evict = service.stub.Evict(pb.EvictRequest(all=True), metadata=admin)
        assert (await failure(evict)).reason == "SCOPE_MISSING"
        logs = service.stub.TailLogs(pb.TailLogsRequest(model="mine-a"), metadata=admin)
        assert (await failure(logs.read())).reason == "SCOPE_MISSING"
        assert (await refused_ensure(service, "other", admin)).reason == "MODEL_UNKNOWN"
        assert service.pool.totals().servers == 0


async def test_what_a_caller_changes_is_kept_with_its_front() -> None:
    async with serving(rules=rules(), models=MODELS) as service:
        metadata = says(caller(), "front")
        await service.stub.Ensure(pb.EnsureRequest(model="mine-a"), metadata=metadata)
        assert (await refused_ensure(service, "none", metadata)).reason == "MODEL_UNKNOWN"
        kept = service.world.events.of("call")
        assert [(one["method"], one["principal"]) for one in kept] == [
            ("Ensure", "front/alice"),
            ("Ensure", "front/alice"),
        ]


async def test_what_is_kept_of_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_calls, "MAX_KNOWN", 3)
    async with serving(models=MODELS) as service:
        gate = service.server._authorization._fleet_calls
        for least in range(10):
            call = pb.FleetCall(least_generation=least, epoch=1, front="f")
            await names(service, says(call))
            assert len(gate._known) <= 3
        known = dict(gate._known)
        held = pb.FleetCall(hold="h", front="f")
        stream = service.stub.Hold(pb.HoldRequest(model="mine-a"), metadata=says(held))
        await settled_hold(stream)
        assert gate._known == known
        stream.cancel()


# --- which front leads ------------------------------------------------------------------------


async def test_a_paused_front_of_an_old_epoch_is_refused_by_each_call() -> None:
    async with serving(models=MODELS) as service:
        old = says(pb.FleetCall(epoch=7, front="f-old"))
        watch = service.stub.Watch(pb.WatchRequest(), metadata=old)
        await watch.read()
        await names(service, says(pb.FleetCall(epoch=8, front="f-new")))
        ensure = service.stub.Ensure(pb.EnsureRequest(model="mine-a"), metadata=old)
        hold = service.stub.Hold(pb.HoldRequest(model="mine-a"), metadata=old)
        for call in (ensure, hold.read(), service.stub.List(pb.ListRequest(), metadata=old)):
            stale = await failure(call)
            assert (stale.code, stale.reason) == ("FAILED_PRECONDITION", "STALE_FLEET")
            assert stale.details["ErrorInfo"].metadata == {"epoch": "8", "front": "f-new"}
            assert stale.pushback == "-1"
        assert service.pool.totals().servers == 0
        assert not watch.done(), "what was opened in time goes on"
        await names(service, says(pb.FleetCall(epoch=8, front="f-follower")))
        await names(service, says(pb.FleetCall(front="f-old")))


async def test_a_call_that_its_scope_does_not_allow_shows_no_epoch_of_a_stranger() -> None:
    seen = fence()
    async with serving(rules=rules(), fence=seen) as service:
        metadata = says(pb.FleetCall(epoch=9, front="x"), "engine")
        await failure(service.stub.List(pb.ListRequest(), metadata=metadata))
        assert seen.leader.epoch == 0


async def test_an_old_front_is_refused_by_the_next_service_too(tmp_path: Path) -> None:
    def as_left() -> Fence:
        file = LeaderFile(tmp_path)
        return Fence(file.read(), file.write, lambda: 0.0)

    async with serving(fence=as_left()) as service:
        await names(service, says(pb.FleetCall(epoch=8, front="f-new")))
    async with serving(fence=as_left()) as service:
        old = says(pb.FleetCall(epoch=7, front="f-old"))
        stale = await failure(service.stub.List(pb.ListRequest(), metadata=old))
        assert stale.details["ErrorInfo"].metadata == {"epoch": "8", "front": "f-new"}


# --- members that serve their fleet only --------------------------------------------------------


@pytest.mark.parametrize("call", [None, pb.FleetCall(), pb.FleetCall(front="follower")])
async def test_a_member_of_a_fleet_only_starts_nothing_for_others(
    call: pb.FleetCall | None,
) -> None:
    metadata = says(call) if call is not None else ()
    async with serving(fleet=FleetSettings(only_fleet=True)) as service:
        ensure = service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=metadata)
        hold = service.stub.Hold(pb.HoldRequest(model="m"), metadata=metadata)
        for refused in (await failure(ensure), await failure(hold.read())):
            assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "FLEET_ONLY")
            assert "call the front" in refused.message
        assert service.pool.totals().servers == 0


async def test_a_member_of_a_fleet_only_serves_its_fleet_and_shows_itself_to_others() -> None:
    async with serving(fleet=FleetSettings(only_fleet=True)) as service:
        metadata = says(pb.FleetCall(epoch=1, front="f"))
        await service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=metadata)
        refused = await failure(service.ensure("m"))
        assert refused.reason == "FLEET_ONLY", "also if there is a server"
        (server,) = (await service.stub.List(pb.ListRequest())).servers
        assert [each async for each in service.stub.Pull(pb.PullRequest(model="m"))]
        await service.stub.Evict(pb.EvictRequest(model=server.model, force=True))
        assert service.pool.totals().servers == 0


async def test_the_page_starts_nothing_on_a_member_of_a_fleet_only() -> None:
    async with serving(fleet=FleetSettings(only_fleet=True)) as service:
        calls = JsonCalls(service.servicer)
        page = Caller("ipv4:127.0.0.1:1", LOCAL)
        with pytest.raises(CallFailed) as refused:
            await calls.unary("Ensure", b'{"model": "m"}', page)
        assert refused.value.reason == "FLEET_ONLY"
