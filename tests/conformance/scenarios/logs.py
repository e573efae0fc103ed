"""Logs of servers: what comes, after which cursor it goes on, and what is refused."""

from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Refusal, Script, Stay
from tests.conformance.expected import Said, at_least
from tests.conformance.kinds import ALONE, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import BROKEN, DROPPED, ENDING
from tests.conformance.scenarios.deaths import PATIENT
from tests.conformance.scenarios.refusals import invalid
from tests.conformance.steps import (
    Asked,
    Await,
    End,
    Event,
    FirstEvent,
    KillService,
    StartService,
    StillOpen,
    begin,
    call,
    failed,
    refused,
)

CROWDED = Refusal(StatusCode.RESOURCE_EXHAUSTED, "so many follow", "TOO_MANY_FOLLOWERS")
REMOVED = Refusal(StatusCode.NOT_FOUND, "it was removed", "LOG_NOT_FOUND")
EXIT = pb.Exit(generation=1, cause=pb.EXIT_CAUSE_CRASHED, message="it crashed", signal=9)


def line(number: int, generation: int = 1, missed: int = 0) -> pb.TailLogsResponse:
    return pb.TailLogsResponse(
        generation=generation,
        lines=[f"line {number}"],
        missed_bytes=missed,
        cursor=f"after {number}",
    )


def told(number: int, generation: int = 1, missed: int = 0) -> object:
    return {
        "kind": "lines",
        "generation": generation,
        "lines": [f"line {number}"],
        "missed_bytes": missed,
        "cursor": f"after {number}",
    }


def crowded(script: Script) -> None:
    script.answer("TailLogs", CROWDED)


def broken(script: Script) -> None:
    ended = pb.TailLogsResponse(generation=1, ended=True, exit=EXIT, cursor="after all of 1")
    script.answer("TailLogs", line(1), line(2), BROKEN)
    script.answer("TailLogs", ENDING)
    script.answer("TailLogs", DROPPED)
    script.answer("TailLogs", line(3), ended, BROKEN)
    script.answer("TailLogs", pb.TailLogsResponse(cursor="nothing yet"), line(4, 2, 99))


def followed(script: Script) -> None:
    script.answer("TailLogs", line(1))
    script.answer("TailLogs", line(2), BROKEN)
    script.answer("TailLogs", REMOVED)


def broken_before_its_first_line(script: Script) -> None:
    script.answer("TailLogs", pb.TailLogsResponse(generation=1, cursor="the end"), BROKEN)
    script.answer("TailLogs", line(1))
    script.answer("TailLogs", REMOVED)


def quiet(script: Script) -> None:
    script.answer("TailLogs", line(1), Stay())


SCENARIOS = (
    Scenario(
        "logs returns what a server has written, and how it ended",
        PLAIN,
        [
            call("ensure", model="{m}"),
            call("evict", model="{m}"),
            begin("logs", "log", model="{m}", lines=2),
            Event("log", {"kind": "lines", "generation": 1, "missed_bytes": 0}, "lines"),
            Event("log", {"kind": "ended", "generation": 1, "exit": {"cause": "EVICTED"}}, "end"),
            End("log", gives={}),
            begin("logs", "rest", model="{m}", cursor=Said("lines.cursor")),
            FirstEvent("rest", {"kind": "ended", "cursor": Said("end.cursor")}),
            End("rest", gives={}),
        ],
        calls={"Ensure": 1, "Evict": 1, "TailLogs": 2},
        leaves={},
    ),
    Scenario(
        "logs begins with the process that is asked for, or with the oldest",
        PLAIN,
        [
            *(call(op, model="{m}") for _ in range(3) for op in ("ensure", "evict")),
            begin("logs", "one", model="{m}", generation=1),
            FirstEvent("one", {"kind": "lines", "generation": 1}),
            Event("one", {"kind": "ended", "generation": 1}),
            End("one", gives={}),
            begin("logs", "previous", model="{m}", previous=True),
            FirstEvent("previous", {"kind": "lines", "generation": 2}),
            Event("previous", {"kind": "ended", "generation": 2}),
            End("previous", gives={}),
            begin("logs", "all", model="{m}", oldest=True),
            *(
                Event("all", {"kind": kind, "generation": generation})
                for generation in (1, 2, 3)
                for kind in ("lines", "ended")
            ),
            End("all", gives={}),
        ],
        calls={"Ensure": 3, "Evict": 3, "TailLogs": 3},
        leaves={},
    ),
    Scenario(
        "a log is followed over a kill -9 of the service, and to the next process",
        ALONE,
        [
            call("ensure", model="{m}"),
            begin("logs", "log", model="{m}", follow=True),
            Event("log", {"kind": "lines", "generation": 1}),
            KillService(),
            StartService(),
            Await("{m}", "READY"),
            call("evict", model="{m}"),
            Event("log", {"kind": "ended", "generation": 1, "exit": {"cause": "EVICTED"}}),
            call("ensure", model="{m}"),
            Event("log", {"kind": "lines", "generation": 2}),
            StillOpen("log"),
        ],
        connect=PATIENT,
        calls={"Ensure": at_least(2), "Evict": at_least(1), "TailLogs": at_least(2)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a log that breaks goes on after the last cursor, each line once",
        broken,
        [
            begin("logs", "log", model="m", generation=1, lines=7),
            FirstEvent("log", told(1)),
            FirstEvent("log", told(2)),
            FirstEvent("log", told(3)),
            FirstEvent(
                "log",
                {
                    "kind": "ended",
                    "generation": 1,
                    "exit": {"cause": "CRASHED", "message": "it crashed", "signal": 9},
                    "cursor": "after all of 1",
                },
            ),
            FirstEvent("log", told(4, 2, 99)),
            End("log", gives={}),
            Asked(
                "TailLogs",
                [
                    {"model": "m", "generation": 1, "lines": 7},
                    {"model": "m", "cursor": "after 2"},
                    {"model": "m", "cursor": "after 2"},
                    {"model": "m", "cursor": "after 2"},
                    {"model": "m", "cursor": "after all of 1"},
                ],
            ),
        ],
        calls={"TailLogs": 5},
    ),
    Scenario(
        "a log that is followed has no end but an error",
        followed,
        [
            begin("logs", "log", model="m", follow=True),
            FirstEvent("log", told(1)),
            FirstEvent("log", told(2)),
            End("log", fails=refused("LOG_NOT_FOUND", "NOT_FOUND", metadata=("model",))),
            Asked(
                "TailLogs",
                [
                    {"model": "m", "follow": True},
                    {"model": "m", "follow": True, "cursor": "after 1"},
                    {"model": "m", "follow": True, "cursor": "after 2"},
                ],
            ),
        ],
        calls={"TailLogs": 3},
    ),
    Scenario(
        "a followed log that breaks before its first line loses none",
        broken_before_its_first_line,
        [
            begin("logs", "log", model="m", lines=0, follow=True),
            FirstEvent("log", told(1)),
            End("log", fails=refused("LOG_NOT_FOUND", "NOT_FOUND", metadata=("model",))),
            Asked(
                "TailLogs",
                [
                    {"model": "m", "lines": 0, "follow": True},
                    {"model": "m", "follow": True, "cursor": "the end"},
                    {"model": "m", "follow": True, "cursor": "after 1"},
                ],
            ),
        ],
        calls={"TailLogs": 3},
    ),
    Scenario(
        "a log that is given up ends at once",
        quiet,
        [
            begin("logs", "log", model="m", follow=True),
            FirstEvent("log", told(1)),
            call("cancel", target="log", gives={}),
            End("log", fails=failed("Cancelled", "CANCELLED")),
        ],
        calls={"TailLogs": 1},
    ),
    Scenario(
        "LOG_NOT_FOUND",
        PLAIN,
        [
            begin("logs", "log", model="{m}", follow=True),
            End("log", fails=refused("LOG_NOT_FOUND", "NOT_FOUND", metadata=("model",))),
        ],
        calls={"TailLogs": 1},
        leaves={},
    ),
    Scenario(
        "TOO_MANY_FOLLOWERS",
        crowded,
        [
            begin("logs", "log", model="m", follow=True),
            End(
                "log",
                fails=refused("TOO_MANY_FOLLOWERS", "RESOURCE_EXHAUSTED", metadata=("model",)),
            ),
        ],
        calls={"TailLogs": 1},
    ),
    Scenario(
        "INVALID_LINES, INVALID_CURSOR",
        PLAIN,
        [
            begin("logs", "lines", model="{m}", oldest=True, lines=1),
            End("lines", fails=invalid("lines")),
            begin("logs", "cursor", model="{m}", cursor="x"),
            End("cursor", fails=invalid("cursor")),
        ],
        calls={"TailLogs": 2},
        leaves={},
    ),
)
