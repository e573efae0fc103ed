"""What the calls promise when all goes well."""

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service.core.limits import Limits
from pool_service.core.server import Cause, Phase
from pool_service.core.types import Diagnosis
from pool_service.rpc.wire import CAUSES, STATES
from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import LIMITS, REVISION, Service, gate, read, serving
from tests.world import CRASH, KILLED, NEVER, Script, settled

ROOMY = replace(LIMITS, queue_limit=1000)
"""However many are asked for at once, none is refused."""


async def listed(service: Service, **fields: int | str) -> pb.ListResponse:
    response: pb.ListResponse = await service.stub.List(pb.ListRequest(**fields))  # type: ignore[arg-type]
    return response


async def test_ensure_returns_everything_about_the_server() -> None:
    async with serving() as service:
        response = await service.ensure("vllm-mlx/qwen", runtime_model="org/qwen")
        server = response.server
        assert response.started
        assert server.state == pb.SERVER_STATE_READY
        assert server.endpoint == f"http://127.0.0.1:{server.pid}"
        assert server.served_model_name == "served/vllm-mlx/qwen"
        assert server.embedding_model_name == "embeds/vllm-mlx/qwen"
        assert (server.runtime_model, server.generation) == ("org/qwen", 1)
        assert server.log_path == "/logs/vllm-mlx/qwen/1"
        times = [server.create_time, server.start_time, server.ready_time, server.last_use_time]
        assert all(time.ToNanoseconds() > 0 for time in times)
        assert times == sorted(times, key=Timestamp.ToNanoseconds)
        assert not server.HasField("last_exit")
        assert not (await service.ensure("vllm-mlx/qwen")).started


async def test_a_herd_of_callers_shares_one_start_and_gets_equal_answers() -> None:
    callers = 1_000
    async with serving() as service:
        loaded = gate()
        service.world.script("m", Script(load=loaded))
        calls = [asyncio.ensure_future(service.ensure()) for _ in range(callers)]
        await settled(lambda: service.pool.totals().waiting_calls == callers)
        loaded.set()
        answers = await asyncio.gather(*calls)
        assert len(service.world.times("spawn")) == 1
        assert sum(answer.started for answer in answers) == 1
        assert len({answer.server.SerializeToString(deterministic=True) for answer in answers}) == 1


async def test_a_crash_is_reported_with_the_next_generation() -> None:
    async with serving() as service:
        service.world.script("m", Script(load=0.0))
        await service.ensure()
        service.world.of("m").end(CRASH)
        await settled(lambda: service.pool.totals().servers and service.world.times("clean_up"))
        server = (await service.ensure()).server
        assert server.generation == 2
        last = server.last_exit
        assert (last.generation, last.code, last.cause) == (1, 1, pb.EXIT_CAUSE_CRASHED)
        assert (last.message, list(last.last_lines)) == (CRASH.message, list(CRASH.last_lines))
        assert not last.HasField("signal")


async def test_evict_returns_what_it_stopped_and_how_it_ended() -> None:
    async with serving() as service:
        for model in "ba":
            await service.ensure(model)
        evicted = (await service.stub.Evict(pb.EvictRequest(all=True))).evicted
        assert [each.server.model for each in evicted] == ["a", "b"]
        assert not any(each.killed for each in evicted)
        last = evicted[0].server.last_exit
        assert (last.cause, last.signal) == (pb.EXIT_CAUSE_EVICTED, 15)
        assert not last.HasField("code")
        assert not (await service.stub.Evict(pb.EvictRequest(model="a"))).evicted
        assert service.world.living == []


async def test_evict_idle_leaves_what_was_just_used() -> None:
    async with serving(grace_period=0.0) as service:
        await service.ensure("a")
        assert (await service.stub.Evict(pb.EvictRequest(idle=True))).evicted
    async with serving(grace_period=1000.0) as service:
        await service.ensure("a")
        assert not (await service.stub.Evict(pb.EvictRequest(idle=True))).evicted


async def test_one_that_was_killed_and_is_waited_for_backs_off_and_is_started_again() -> None:
    limits = Limits(backoff_initial=0.2)
    async with serving(limits=limits) as service:
        service.world.script("m", Script(load=NEVER, dies=0.0, report=KILLED), Script(load=0.0))
        stream = service.stub.Watch(pb.WatchRequest())
        await read(stream, 1)
        call = asyncio.ensure_future(service.ensure())
        await settled(lambda: service.pool.totals().by_phase[Phase.BACKING_OFF])
        page = await listed(service)
        (server,) = page.servers
        assert (page.totals.backing_off, page.totals.waiting_calls) == (1, 1)
        assert server.state == pb.SERVER_STATE_BACKING_OFF
        assert (server.detail, server.pid, server.endpoint) == (KILLED.message, 0, "")
        assert (server.last_exit.signal, server.last_exit.cause) == (9, pb.EXIT_CAUSE_CRASHED)
        assert (await call).server.generation == 2
        events = await read(stream, service.pool.history.revision - REVISION)
        changes = [event.server for event in events if event.HasField("server")]
        assert list(dict.fromkeys((one.generation, one.state) for one in changes)) == [
            (1, pb.SERVER_STATE_QUEUED),
            (1, pb.SERVER_STATE_STARTING),
            (1, pb.SERVER_STATE_STOPPING),
            (2, pb.SERVER_STATE_BACKING_OFF),
            (2, pb.SERVER_STATE_QUEUED),
            (2, pb.SERVER_STATE_STARTING),
            (2, pb.SERVER_STATE_READY),
        ]
        (removed,) = (event.removed for event in events if event.HasField("removed"))
        assert (removed.model, removed.generation) == ("m", 1)
        stream.cancel()


@pytest.mark.parametrize("cause", Cause)
def test_every_cause_of_an_end_has_its_name_on_the_wire(cause: Cause) -> None:
    assert pb.ExitCause.Name(CAUSES[cause]) == f"EXIT_CAUSE_{cause.name}"


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_its_state_on_the_wire(phase: Phase) -> None:
    assert STATES[phase] != pb.SERVER_STATE_UNSPECIFIED


# --- List ---------------------------------------------------------------------------------


async def test_list_pages_through_all_in_order() -> None:
    async with serving() as service:
        models = ["b", "a/x", "a", "Z", "c"]
        await asyncio.gather(*[service.ensure(model) for model in models])
        seen: list[str] = []
        token = ""
        for _ in range(3):
            page = await listed(service, page_size=2, page_token=token)
            seen += [server.model for server in page.servers]
            token = page.next_page_token
        assert seen == sorted(models)
        assert token == ""


async def test_two_servers_of_a_model_are_on_two_pages_if_a_page_has_one() -> None:
    async with serving() as service:
        drained = asyncio.Event()
        lost = Script(load=0.0, listens=False, kin_busy=drained)
        service.world.renewed.add("m")
        service.world.script("m", lost, Script(load=0.0))
        await service.ensure()
        assert (await service.ensure()).server.generation == 2
        seen: list[tuple[str, int, int]] = []
        token = ""
        for _ in range(2):
            page = await listed(service, page_size=1, page_token=token)
            seen += [(one.model, one.generation, one.role) for one in page.servers]
            token = page.next_page_token
        drained.set()
        assert seen == [("m", 1, pb.SERVER_ROLE_SUPERSEDED), ("m", 2, pb.SERVER_ROLE_CURRENT)]
        assert token == ""


async def test_a_page_that_is_exactly_full_is_the_last() -> None:
    async with serving() as service:
        await asyncio.gather(*[service.ensure(model) for model in "ab"])
        assert (await listed(service, page_size=2)).next_page_token == ""


async def test_who_stays_is_seen_exactly_once_while_others_come_and_go() -> None:
    async with serving() as service:
        stay = [f"stay{n}" for n in range(10)]
        await asyncio.gather(*[service.ensure(model) for model in [*stay, "go0", "t"]])
        seen: list[str] = []
        token = ""
        for turn in range(20):
            page = await listed(service, page_size=2, page_token=token)
            seen += [server.model for server in page.servers]
            token = page.next_page_token
            if not token:
                break
            await service.stub.Evict(pb.EvictRequest(model=seen[-1] if turn == 1 else "go0"))
            await service.ensure(f"a{turn}")
            await service.ensure(f"stay{turn}x")
        for model in stay:
            assert seen.count(model) == 1
        assert seen == sorted(seen)


async def test_list_counts_the_whole_pool_whatever_the_page() -> None:
    async with serving() as service:
        service.world.script("loads", Script(load=NEVER))
        service.world.script("dies", Script(load=NEVER, dies=0.0))
        await asyncio.gather(service.ensure("a"), service.ensure("b"))
        call = asyncio.ensure_future(service.ensure("loads"))
        with contextlib.suppress(grpc.aio.AioRpcError):
            await service.ensure("dies")
        await settled(lambda: service.world.times("clean_up"))
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        totals = (await listed(service, page_size=1)).totals
        assert (totals.servers, totals.ready, totals.starting, totals.failed) == (4, 2, 1, 1)
        assert (totals.queued, totals.stopping, totals.waiting_calls) == (0, 0, 1)
        call.cancel()


async def test_list_says_what_the_service_cannot_do() -> None:
    async with serving() as service:
        assert list((await listed(service)).notices) == []
        service.world.records.degraded_reason = "the state directory cannot be written: disk full"
        notices = list((await listed(service)).notices)
        assert notices == ["the state directory cannot be written: disk full"]


async def test_list_takes_the_default_and_the_largest_page() -> None:
    async with serving(limits=ROOMY) as service:
        await asyncio.gather(*[service.ensure(f"m{n:03}") for n in range(120)])
        assert len((await listed(service)).servers) == 100
        assert len((await listed(service, page_size=2**31 - 1)).servers) == 120


async def test_pages_of_large_servers_are_shorter_than_asked_for() -> None:
    lines = ("x" * 500,) * 20
    report = replace(CRASH, diagnosis=Diagnosis.MODEL_REJECTED, last_lines=lines)
    async with serving(limits=ROOMY) as service:
        service.world.default = Script(load=NEVER, dies=0.0, report=report)
        models = [f"m{number:03}" for number in range(450)]
        await asyncio.gather(*map(service.ensure, models), return_exceptions=True)
        seen: list[str] = []
        pages = 0
        token = ""
        while token or not pages:
            page = await listed(service, page_size=1000, page_token=token)
            assert page.ByteSize() < 1.1 * 1024 * 1024
            seen += [server.model for server in page.servers]
            token, pages = page.next_page_token, pages + 1
        assert seen == models
        assert pages == 5


# --- Watch --------------------------------------------------------------------------------


def kinds(events: list[pb.WatchResponse]) -> list[str | None]:
    return [event.WhichOneof("event") for event in events]


async def test_watch_begins_with_the_present_state_and_says_that_it_is_complete() -> None:
    async with serving() as service:
        await service.ensure("b")
        await service.ensure("a")
        revision = (await listed(service)).revision
        stream = service.stub.Watch(pb.WatchRequest())
        events = await read(stream, 3)
        assert kinds(events) == ["server", "server", "synced"]
        assert [event.server.model for event in events[:2]] == ["a", "b"]
        assert {event.revision for event in events} == {revision}
        stream.cancel()


async def test_watch_then_sends_every_change_with_revisions_that_rise_by_one() -> None:
    async with serving() as service:
        stream = service.stub.Watch(pb.WatchRequest())
        assert kinds(await read(stream, 1)) == ["synced"]
        await service.ensure()
        await service.stub.Evict(pb.EvictRequest(model="m"))
        events = await read(stream, service.pool.history.revision - REVISION)
        assert [e.revision for e in events] == [*range(REVISION + 1, REVISION + 1 + len(events))]
        assert kinds(events) == ["server"] * (len(events) - 1) + ["removed"]
        states = list(dict.fromkeys(event.server.state for event in events[:-1]))
        assert states == [
            pb.SERVER_STATE_QUEUED,
            pb.SERVER_STATE_STARTING,
            pb.SERVER_STATE_READY,
            pb.SERVER_STATE_STOPPING,
        ]
        assert events[-1].removed.last_exit.cause == pb.EXIT_CAUSE_EVICTED
        stream.cancel()


async def test_watch_resumes_after_a_revision_of_list() -> None:
    async with serving() as service:
        await service.ensure("a")
        revision = (await listed(service)).revision
        await service.ensure("b")
        stream = service.stub.Watch(pb.WatchRequest(after_revision=revision))
        (event,) = await read(stream, 1)
        assert (event.revision, event.server.model) == (revision + 1, "b")
        stream.cancel()


async def test_the_replay_of_watch_equals_list() -> None:
    async with serving() as service:
        stream = service.stub.Watch(pb.WatchRequest())
        await read(stream, 1)
        await asyncio.gather(*[service.ensure(model) for model in "abcd"])
        service.world.of("c").end(CRASH)
        await service.stub.Evict(pb.EvictRequest(model="b"))
        await settled(lambda: len(service.world.times("clean_up")) == 2)
        page = await listed(service)
        shown: dict[tuple[str, int], pb.Server] = {}
        for event in await read(stream, page.revision - REVISION):
            if event.WhichOneof("event") == "removed":
                del shown[event.removed.model, event.removed.generation]
            else:
                shown[event.server.model, event.server.generation] = event.server
        assert [shown[key] for key in sorted(shown)] == list(page.servers)
        stream.cancel()


async def test_a_watcher_that_goes_away_leaves_nothing_behind() -> None:
    async with serving() as service:
        before = len(asyncio.all_tasks())
        for _ in range(50):
            stream = service.stub.Watch(pb.WatchRequest())
            await read(stream, 1)
            stream.cancel()
        await settled(lambda: len(asyncio.all_tasks()) <= before)
