"""A service that says what this client cannot know, or less than it should."""

from google.protobuf.duration_pb2 import Duration
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
    retry_after,
    synced,
)
from tests.conformance.expected import Is
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import EVERYTHING, SOON
from tests.conformance.steps import Asked, End, Event, begin, call, failed

NEW_FIELD = b"\xc2\x3e\x03new"
"""Of number 1000, a text."""

NEW_STATE, NEW_ROLE = 17, pb.ServerRole.ValueType(23)
NEW_CAUSE, NEW_EXPECTATION = pb.ExitCause.ValueType(99), pb.Expectation.ValueType(42)


def newer_server() -> pb.Server:
    server = ready(state=NEW_STATE, role=NEW_ROLE, expected_by=NEW_EXPECTATION)
    server.last_exit.cause = NEW_CAUSE
    return pb.Server.FromString(server.SerializeToString() + NEW_FIELD)


def newer(script: Script) -> None:
    script.answer("Ensure", pb.EnsureResponse(server=newer_server()))
    response = pb.ListResponse(servers=[newer_server()], revision=7)
    script.answer("List", pb.ListResponse.FromString(response.SerializeToString() + NEW_FIELD))


def newer_events(script: Script) -> None:
    unknown = pb.WatchResponse.FromString(
        pb.WatchResponse(revision=8).SerializeToString() + NEW_FIELD
    )
    ending = Refusal(StatusCode.UNAVAILABLE, "it ends", "SHUTTING_DOWN", SOON)
    script.answer("Watch", synced(7), unknown, changed(9, state=NEW_STATE), ending)
    script.answer("Watch", removed(10), Stay())


def newer_hold(script: Script) -> None:
    script.answer("Hold", held(state=NEW_STATE, endpoint=""), held(generation=2), Stay())


def pages(script: Script) -> None:
    first, second = pb.Model(model="a"), pb.Model(model="b", expected_by=NEW_EXPECTATION)
    script.answer("ListModels", pb.ListModelsResponse(models=[first], next_page_token="t"))
    script.answer("ListModels", pb.ListModelsResponse(models=[second]))


def reasons(script: Script) -> None:
    script.answer("Ensure", EVERYTHING)
    script.answer("Ensure", Refusal(StatusCode.NOT_FOUND, "soon", "TOO_RAINY", SOON))
    script.answer("Ensure", pb.EnsureResponse(server=ready()))


def plain(script: Script) -> None:
    strange = Refusal(StatusCode.ABORTED, "no", "EVICTED", (), domain="elsewhere")
    for refusal in (
        Refusal(StatusCode.DATA_LOSS, "no"),
        strange,
        Refusal(StatusCode.UNIMPLEMENTED, "what?"),
        Refusal(StatusCode.CANCELLED, "too many"),
        Refusal(StatusCode.UNAVAILABLE, "away"),
        Refusal(StatusCode.UNAVAILABLE, "away", "RECOVERING", (retry_after(3600),)),
    ):
        script.answer("Ensure", refusal)


def first_page_fails(script: Script) -> None:
    script.answer("List", Refusal(StatusCode.UNAVAILABLE, "soon", "RECOVERING", SOON))
    totals = pb.PoolTotals(servers=2)
    first = pb.ListResponse(servers=[ready("a")], next_page_token="t", revision=7, totals=totals)
    script.answer("List", first)
    script.answer("List", Refusal(StatusCode.UNAVAILABLE, "soon", "RECOVERING", SOON))
    second = pb.ListResponse(servers=[ready("b")], revision=8, totals=totals, notices=["full"])
    script.answer("List", second)


def silent(script: Script) -> None:
    script.answer("Ensure", pb.EnsureResponse(server=ready()))
    script.answer("Hold", held(), Stay())
    script.answer("Evict", pb.EvictResponse())
    script.answer("Pull", pb.PullResponse(done_bytes=1, total_bytes=1))


SCENARIOS = (
    Scenario(
        "the caller's values are sent, and nothing else",
        silent,
        [
            call("ensure", model="m"),
            call("ensure", model="m", runtime_model="r", keep_alive=90.5, download=False),
            call("ensure", model="m", keep_alive=0, download=True),
            Asked(
                "Ensure",
                [
                    {"model": "m"},
                    {
                        "model": "m",
                        "runtime_model": "r",
                        "keep_alive": Duration(seconds=90, nanos=500_000_000),
                        "download": False,
                    },
                    {"model": "m", "keep_alive": Duration(), "download": True},
                ],
            ),
            begin("hold", "held", model="m", keep_alive=-1, holder="me", download=True),
            call("ready", hold="held"),
            Asked(
                "Hold",
                [
                    {
                        "model": "m",
                        "keep_alive": Is("below 0", lambda value: value.seconds < 0),
                        "holder": "me",
                        "download": True,
                    }
                ],
            ),
            call("evict", model="m", force=True),
            call("evict", idle=True),
            call("evict", all=True),
            Asked("Evict", [{"model": "m", "force": True}, {"idle": True}, {"all": True}]),
            begin("pull", "pull", model="m", runtime_model="r"),
            End("pull", gives={}),
            Asked("Pull", [{"model": "m", "runtime_model": "r"}]),
        ],
    ),
    Scenario(
        "unknown enum values and fields are kept and do no harm",
        newer,
        [
            call(
                "ensure",
                model="m",
                gives={
                    "server": {
                        "model": "m",
                        "state": NEW_STATE,
                        "role": NEW_ROLE,
                        "expected_by": NEW_EXPECTATION,
                        "last_exit": {"cause": NEW_CAUSE, "time": None},
                    }
                },
            ),
            call("list", gives={"servers": [{"state": NEW_STATE}], "revision": 7}),
        ],
        calls={"Ensure": 1, "List": 1},
    ),
    Scenario(
        "an unknown event is skipped, and its revision counts",
        newer_events,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced", "revision": 7}),
            Event("watch", {"kind": "changed", "revision": 9, "server": {"state": NEW_STATE}}),
            Event("watch", {"kind": "removed", "revision": 10, "server": {"model": "m"}}),
        ],
        calls={"Watch": 2},
    ),
    Scenario(
        "an unknown state is not READY",
        newer_hold,
        [
            begin("hold", "held", model="m"),
            call("ready", hold="held", gives={"server": {"generation": 2}}),
        ],
        calls={"Hold": 1},
    ),
    Scenario(
        "an unknown reason is a plain error with all details",
        reasons,
        [
            call(
                "ensure",
                model="m",
                fails={
                    "kind": "PoolError",
                    "code": "FAILED_PRECONDITION",
                    "reason": "TOO_SUNNY",
                    "message": "much is wrong",
                    "retry_after": None,
                    "metadata": {"model": "m"},
                    "last_lines": ["first", "last"],
                    "violations": [
                        {"kind": "KIND", "subject": "s", "description": "d"},
                        {"subject": "memory", "description": "full"},
                    ],
                    "request_id": "request-18",
                },
            ),
            call("ensure", model="m", gives={"server": {"model": "m"}}),
        ],
        calls={"Ensure": 3},
    ),
    Scenario(
        "a status without details, or of another service, counts by its code",
        plain,
        [
            call("ensure", model="m", fails=failed("PoolError", "DATA_LOSS")),
            call("ensure", model="m", fails=failed("PoolError", "ABORTED")),
            call("ensure", model="m", fails=failed("PoolError", "UNIMPLEMENTED")),
            call("ensure", model="m", fails=failed("PoolUnavailable", "UNAVAILABLE")),
            call("ensure", model="m", fails=failed("PoolUnavailable", "UNAVAILABLE")),
            call("ensure", model="m", fails={"kind": "Recovering", "retry_after": 3600}),
        ],
        connect={"attempts": 1},
        calls={"Ensure": 6},
    ),
    Scenario(
        "models returns all pages",
        pages,
        [
            call(
                "models",
                gives={"models": [{"model": "a"}, {"model": "b", "expected_by": NEW_EXPECTATION}]},
            )
        ],
        calls={"ListModels": 2},
    ),
    Scenario(
        "each page of a list is retried by itself, and notices are returned",
        first_page_fails,
        [
            call(
                "list",
                gives={
                    "servers": [{"model": "a"}, {"model": "b"}],
                    "pages": 2,
                    "notices": ["full"],
                },
            )
        ],
        calls={"List": 4},
    ),
)
