"""Which spans calls and starts make, and to which trace they belong."""

import asyncio
import itertools
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from pool_service.core.server import Phase
from pool_service.tracing_setup import is_wanted, traces_of
from pool_service.v1 import pool_service_pb2 as pb
from tests.pool.running import DEFAULTS
from tests.rpc.serving import LIMITS, Service, failure, gate, serving, settled_hold
from tests.world import CRASH, DRAINED, Script, key_of, settled

TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
CALLER_ID = 0x00F067AA0BA902B7
ENSURE = "pool_service.v1.PoolService/Ensure"
KILLED_BY_SIGNAL = replace(DRAINED, signal=9)


def header(*, sampled: bool = True, trace_id: int = TRACE_ID) -> tuple[tuple[str, str], ...]:
    return (("traceparent", f"00-{trace_id:032x}-{CALLER_ID:016x}-0{int(sampled)}"),)


class Recorded:
    """Keeps every span that has ended."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._spans))

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    def named(self, name: str, model: str = "m") -> list[ReadableSpan]:
        """The spans of this name in the trees under the start or the call for a model."""
        return [one for one in self.spans if one.name == name and self.model_of(one) == model]

    def model_of(self, span: ReadableSpan) -> object:
        assert span.attributes is not None
        if "pool.model" in span.attributes or span.parent is None:
            return span.attributes.get("pool.model")
        parents = [one for one in self.spans if is_child(span, one)]
        return self.model_of(parents[0]) if parents else None

    def one(self, name: str, model: str = "m") -> ReadableSpan:
        (span,) = self.named(name, model)
        return span

    def children(self, span: ReadableSpan) -> list[str]:
        return [one.name for one in self.spans if is_child(one, span)]


def is_child(span: ReadableSpan, parent: ReadableSpan) -> bool:
    assert parent.context is not None
    return span.parent is not None and span.parent.span_id == parent.context.span_id


def lasts(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time


async def ensure(service: Service, model: str = "m", **header_of: bool | int) -> pb.EnsureResponse:
    request = pb.EnsureRequest(model=model)
    metadata = header(**header_of) if header_of else ()  # type: ignore[arg-type]
    response: pb.EnsureResponse = await service.stub.Ensure(request, metadata=metadata)
    return response


async def test_a_cold_ensure_is_a_child_of_its_caller_with_each_stage_below_it() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        await ensure(service, sampled=True)
    call, start = recorded.one(ENSURE), recorded.one("start")
    assert call.parent is not None
    assert (call.parent.trace_id, call.parent.span_id) == (TRACE_ID, CALLER_ID)
    assert is_child(start, call)
    assert recorded.children(start) == ["queue", "prepare", "spawn", "load"]
    assert {span.context.trace_id for span in recorded.spans if span.context} == {TRACE_ID}


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each reading of the clock be a later one than those before, whatever the machine's is."""
    monkeypatch.setattr("time.time_ns", itertools.count(10**18, 1000).__next__)


@pytest.mark.usefixtures("ticking")
async def test_the_stages_of_a_start_follow_each_other_without_a_gap() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        await ensure(service)
    stages = [lasts(recorded.one(name)) for name in ("queue", "prepare", "spawn", "load")]
    ends, begins = [end for _, end in stages], [begin for begin, _ in stages]
    assert begins[1:] == ends[:-1]
    assert all(begin < end for begin, end in stages)
    assert (begins[0], ends[-1]) == lasts(recorded.one("start"))


async def test_every_other_caller_of_a_start_has_a_link_to_it() -> None:
    recorded, loaded = Recorded(), gate()
    async with serving(traced_by=recorded.provider) as service:
        service.world.script("m", Script(load=loaded))
        first = asyncio.ensure_future(ensure(service, sampled=True))
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        others = [asyncio.ensure_future(ensure(service, trace_id=1 + n)) for n in range(3)]
        await settled(lambda: service.pool.totals().waiting_calls == 4)
        loaded.set()
        await asyncio.gather(first, *others)
    start = recorded.one("start")
    linked = [span for span in recorded.named(ENSURE) if span.links]
    assert len(linked) == 3
    assert start.context is not None
    assert {link.context.span_id for span in linked for link in span.links} == {
        start.context.span_id
    }
    assert {span.context.trace_id for span in linked if span.context} == {1, 2, 3}


async def test_a_warm_ensure_has_a_span_only_if_its_caller_samples_it() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        await ensure(service, sampled=True)
        before = len(recorded.spans)
        await ensure(service)
        await ensure(service, sampled=False)
        assert len(recorded.spans) == before
        await ensure(service, sampled=True)
    assert [span.name for span in recorded.spans[before:]] == [ENSURE]


async def test_a_caller_that_samples_nothing_gets_no_spans_of_its_start() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        await ensure(service, sampled=False)
    assert recorded.spans == ()


@pytest.mark.usefixtures("ticking")
async def test_an_eviction_is_below_the_queue_of_the_start_that_it_was_for() -> None:
    recorded = Recorded()
    limits = replace(LIMITS, memory_budget=10)
    async with serving(traced_by=recorded.provider, limits=limits, grace_period=0.0) as service:
        for model in ("m", "other"):
            service.world.script(model, Script(needs=8, takes=8, load=0.0))
        await ensure(service, "other")
        await ensure(service, "m")
    queue, evict = recorded.one("queue"), recorded.one("evict", "other")
    assert is_child(evict, queue)
    (asked, placed), (began, ended) = lasts(queue), lasts(evict)
    assert asked < began < ended <= placed
    assert recorded.named("evict") == []


async def test_a_failed_start_says_why_and_so_does_its_call() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        service.world.script("m", Script(load=gate(), dies=0.0, report=CRASH))
        told = await failure(service.ensure())
        # A failure is sent before the end of its handler, and of the span.
        await settled(lambda: bool(recorded.named(ENSURE)))
    call, start = recorded.one(ENSURE), recorded.one("start")
    assert told.reason == "START_FAILED"
    assert call.attributes is not None
    assert call.attributes["error.type"] == "START_FAILED"
    assert call.attributes["rpc.response.status_code"] == "UNAVAILABLE"
    assert start.status.status_code is call.status.status_code is StatusCode.ERROR
    assert start.status.description == CRASH.message


async def test_a_start_after_a_signal_is_a_second_start_of_the_same_call() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        dying = Script(load=gate(), dies=0.0, report=KILLED_BY_SIGNAL)
        service.world.script("m", dying, Script(load=0.0))
        await ensure(service, sampled=True)
    first, second = recorded.named("start")
    call = recorded.one(ENSURE)
    assert is_child(first, call)
    assert is_child(second, call)
    assert recorded.children(second) == ["back off", "queue", "prepare", "spawn", "load"]
    assert Counter([first.status.status_code, second.status.status_code]) == Counter(
        [StatusCode.ERROR, StatusCode.UNSET]
    )


async def test_a_download_is_below_the_queue() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        service.world.script("m", Script(on_disk=False, load=0.0))
        await service.stub.Ensure(pb.EnsureRequest(model="m", download=True))
    assert is_child(recorded.one("download"), recorded.one("queue"))


async def test_a_caller_that_gives_up_leaves_a_span_and_the_start_goes_on() -> None:
    recorded, loaded = Recorded(), gate()
    async with serving(traced_by=recorded.provider) as service:
        service.world.script("m", Script(load=loaded))
        call = service.stub.Ensure(pb.EnsureRequest(model="m"), metadata=header())
        await settled(lambda: service.pool.totals().by_phase[Phase.STARTING])
        call.cancel()
        await settled(lambda: bool(recorded.named(ENSURE)))
        assert recorded.named("start") == []
        loaded.set()
        await settled(lambda: service.pool.totals().by_phase[Phase.READY])
    given_up = recorded.one(ENSURE)
    assert given_up.attributes is not None
    assert given_up.attributes["rpc.response.status_code"] == "CANCELLED"
    assert is_child(recorded.one("start"), given_up)


async def test_an_alias_and_the_model_share_one_start() -> None:
    recorded, loaded = Recorded(), gate()
    settings = {"m": DEFAULTS}
    async with serving(
        traced_by=recorded.provider, models=settings, aliases={"chat": "m"}
    ) as service:
        service.world.script("m", Script(load=loaded))
        calls = [asyncio.ensure_future(ensure(service, name)) for name in ("m", "chat")]
        await settled(lambda: service.pool.totals().waiting_calls == 2)
        loaded.set()
        await asyncio.gather(*calls)
    assert sum(len(span.links) for span in recorded.named(ENSURE)) == 1


async def test_evict_and_hold_and_pull_have_spans() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        stream = service.stub.Hold(pb.HoldRequest(model="m"), metadata=header())
        while (await stream.read()).server.state != pb.SERVER_STATE_READY:
            pass
        stream.cancel()
        await settled(lambda: bool(recorded.named("pool_service.v1.PoolService/Hold")))
        await service.stub.Evict(pb.EvictRequest(model="m"), metadata=header())
        pull = service.stub.Pull(pb.PullRequest(model="m"), metadata=header())
        assert [each.total_bytes async for each in pull]
    assert is_child(recorded.one("start"), recorded.one("pool_service.v1.PoolService/Hold"))
    for method in ("Evict", "Pull"):
        assert recorded.one(f"pool_service.v1.PoolService/{method}").parent is not None


async def test_a_malformed_request_and_a_malformed_traceparent_do_no_harm() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        for text in ("", "00", "00-" + "z" * 32 + "-" + "0" * 16 + "-01", "x" * 4000):
            await service.stub.Ensure(
                pb.EnsureRequest(model="m"), metadata=(("traceparent", text),)
            )
        raw = cast("Any", service.channel.unary_unary("/" + ENSURE))
        told = await failure(raw(b"\xff\xff"))
        assert told.code == "INVALID_ARGUMENT"
    assert len(recorded.named("start")) == 1


async def test_a_start_belongs_to_the_call_that_waits_for_it_and_not_to_an_eviction() -> None:
    recorded, drained = Recorded(), gate()
    async with serving(traced_by=recorded.provider) as service:
        service.world.script("m", Script(load=0.0, clean_up=drained), Script(load=0.0))
        await ensure(service)
        evict = asyncio.ensure_future(service.stub.Evict(pb.EvictRequest(model="m")))
        await settled(lambda: service.pool.totals().by_phase[Phase.CLEANING_UP])
        waits = asyncio.ensure_future(ensure(service, sampled=True))
        await settled(lambda: service.pool.totals().waiting_calls == 1)
        drained.set()
        await asyncio.gather(evict, waits)
    call = next(one for one in recorded.named(ENSURE) if one.parent is not None)
    second = recorded.named("start")[-1]
    assert is_child(second, call)
    assert recorded.one("pool_service.v1.PoolService/Evict").links == ()


async def test_the_end_of_a_hold_is_no_error() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        stream = service.stub.Hold(pb.HoldRequest(model="m"), metadata=header())
        await settled_hold(stream)
        stream.cancel()
        await settled(lambda: bool(recorded.named("pool_service.v1.PoolService/Hold")))
    hold = recorded.one("pool_service.v1.PoolService/Hold")
    assert hold.status.status_code is StatusCode.UNSET


async def test_what_is_no_name_of_a_model_is_not_sent() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        await failure(service.ensure("a prompt\nthat came into the wrong field"))
        await settled(lambda: bool(recorded.spans))
    (call,) = recorded.spans
    assert call.attributes is not None
    assert "pool.model" not in call.attributes


def test_a_bad_value_of_a_variable_ends_traces_and_not_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "256")
    assert traces_of("http://127.0.0.1:9", lambda name: name) is None


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, True),
        ({"OTEL_TRACES_EXPORTER": ""}, True),
        ({"OTEL_TRACES_EXPORTER": "console, otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_the_standard_variables_can_turn_traces_off(
    variables: dict[str, str], *, wanted: bool
) -> None:
    assert is_wanted("http://127.0.0.1:9", variables) is wanted


async def test_no_span_has_the_key_of_a_server() -> None:
    recorded = Recorded()
    async with serving(traced_by=recorded.provider) as service:
        assert (await service.ensure()).api_key == key_of("m", 1)
        await settled_hold(service.stub.Hold(pb.HoldRequest(model="m")))
        service.world.of("m").end(CRASH)
        await settled(lambda: service.world.times("clean_up"))
    assert len(recorded.spans) > 3
    assert "psk_" not in "".join(span.to_json() for span in recorded.spans)
