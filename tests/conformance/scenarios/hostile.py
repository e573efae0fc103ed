"""Scenarios of a service that is broken, or is none: each answer is an error, or passed over."""

from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import ErrorInfo
from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import (
    Refusal,
    Script,
    Stay,
    changed,
    held,
    ready,
    removed,
    starting,
    synced,
)
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import BROKEN
from tests.conformance.steps import Event, FirstEvent, begin, call, failed

NO_SERVICE = failed("PoolError", "INTERNAL")


def nowhere(script: Script) -> None:
    script.answer("Ensure", pb.EnsureResponse(server=ready(endpoint="")))
    script.answer("Ensure", pb.EnsureResponse())


def of_no_kind(script: Script) -> None:
    server = ready(progress=1.5, create_time=Timestamp(seconds=2**62), ready_time=Timestamp())
    server.ready_time.nanos = -1
    script.answer("Ensure", pb.EnsureResponse(server=server))


def of_two_minds(script: Script) -> None:
    strange = ErrorInfo(reason="EVICTED", domain="elsewhere")
    second = ErrorInfo(reason="EVICTED", domain="pool_service")
    code = StatusCode.FAILED_PRECONDITION
    script.answer("Ensure", Refusal(code, "no", "MODEL_REJECTED", (second,), before=(strange,)))


def without_end(script: Script) -> None:
    script.answer("List", pb.ListResponse(servers=[ready()], next_page_token="again"))


def backwards(script: Script) -> None:
    script.answer(
        "Watch", synced(7), changed(9), changed(8), removed(8), synced(3), changed(10), Stay()
    )


def breaking_off(script: Script) -> None:
    for _ in range(4):
        script.answer("Hold", starting(), BROKEN)
    script.answer("Hold", held(), Stay())


def mixed_up(script: Script) -> None:
    other = held("other", generation=2)
    script.answer("Hold", held(endpoint=""), other, held(generation=3), Stay())


SCENARIOS = (
    Scenario(
        "an answer without a server, or with one that is nowhere, is an error",
        nowhere,
        [
            call("ensure", model="m", fails=NO_SERVICE),
            call("ensure", model="m", fails=NO_SERVICE),
        ],
        calls={"Ensure": 2},
    ),
    Scenario(
        "times and shares that are none are absent",
        of_no_kind,
        [
            call(
                "ensure",
                model="m",
                gives={"server": {"progress": None, "create_time": None, "ready_time": None}},
            )
        ],
        calls={"Ensure": 1},
    ),
    Scenario(
        "of several reasons the service's first counts",
        of_two_minds,
        [call("ensure", model="m", fails={"kind": "ModelRejected"})],
        calls={"Ensure": 1},
    ),
    Scenario(
        "pages that come again are an error",
        without_end,
        [call("list", fails=NO_SERVICE)],
        calls={"List": 2},
    ),
    Scenario(
        "a watch skips events that are older than its last one",
        backwards,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced", "revision": 7}),
            FirstEvent("watch", {"kind": "changed", "revision": 9}),
            FirstEvent("watch", {"kind": "changed", "revision": 10}),
        ],
        calls={"Watch": 1},
    ),
    Scenario(
        "a hold passes over what cannot be of its server",
        mixed_up,
        [
            begin("hold", "held", model="alias"),
            call("ready", hold="held", gives={"server": {"generation": 3}}),
        ],
        calls={"Hold": 1},
    ),
    Scenario(
        "a hold whose streams end soon opens them ever more slowly",
        breaking_off,
        [
            begin("hold", "held", model="m"),
            call("ready", hold="held", takes=1.4, gives={"server": {"generation": 1}}),
        ],
        calls={"Hold": 5},
    ),
)
