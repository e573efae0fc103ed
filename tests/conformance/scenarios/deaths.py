"""Servers and services that are killed while they are used."""

from tests.conformance.expected import URL, Other, Said, at_least, at_most
from tests.conformance.kinds import ALONE, PLAIN
from tests.conformance.runners import LIMIT
from tests.conformance.scenario import Scenario
from tests.conformance.steps import (
    Await,
    AwaitEnd,
    End,
    Event,
    KillService,
    NoGap,
    Signal,
    StartService,
    StillOpen,
    TerminateService,
    begin,
    call,
    failed,
)

READY = {"state": "READY", "endpoint": URL}
AWAY = failed("PoolUnavailable", "UNAVAILABLE")
SLOW = "x?delay=0.002"
PATIENT = {"patience": 2 * LIMIT}
"""For clients that wait for the next service, which may take long to start on a busy machine."""

AT_A_TIME = 4
IN_FLIGHT = 2 * AT_A_TIME
"""On a server that is killed: what each caller was waiting for, and its next request, which the
socket of the dying process may still take; from then on connections are refused."""

SCENARIOS = (
    Scenario(
        "100 inferences over kill -9 of the server: no more fail than were in flight on it",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model=SLOW),
            call("ready", hold="held", name="first"),
            begin("infer", "asks", hold="held", count=100, text="hello", parallel=AT_A_TIME),
            Event("asks", {"done": at_least(20)}),
            Signal("first.server.pid"),
            End("asks", gives={"failed": at_most(IN_FLIGHT)}),
            call("ready", hold="held", gives={"server": {"pid": Other("first.server.pid")}}),
        ],
        calls={"Hold": 1, "Get": at_most(IN_FLIGHT)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "100 inferences over kill -9 of the service: none fails",
        ALONE,
        [
            begin("hold", "held", model="{m}", runtime_model=SLOW),
            call("ready", hold="held", name="first"),
            begin("infer", "asks", hold="held", count=100, text="hello", parallel=AT_A_TIME),
            Event("asks", {"done": at_least(20)}),
            KillService(),
            End("asks", gives={"failed": 0}),
            StartService(),
            Await("{m}", "READY", holds=1),
            call("ready", hold="held", gives={"server": {"pid": Said("first.server.pid")}}),
        ],
        connect=PATIENT,
        calls={"Hold": at_least(2)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a service that is killed while held and watched: the same endpoint, and no gap",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
            KillService(),
            call("ready", hold="held", gives={"server": {"pid": Said("first.server.pid")}}),
            StartService(),
            Await("{m}", "READY", holds=1),
            Event("watch", {"kind": "synced"}),
            call(
                "ready",
                hold="held",
                gives={
                    "server": {
                        "pid": Said("first.server.pid"),
                        "endpoint": Said("first.server.endpoint"),
                        "generation": 1,
                    }
                },
            ),
            call("ensure", model="{n}"),
            Event("watch", {"kind": "changed", "server": {**READY, "model": "{n}"}}),
            StillOpen("held"),
            NoGap("watch"),
        ],
        connect=PATIENT,
        calls={"Hold": at_least(2), "Watch": at_least(2), "Ensure": at_least(1)},
        leaves={"{m}": "READY", "{n}": "READY"},
    ),
    Scenario(
        "a server killed while the service is away is replaced through the handle",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            KillService(),
            Signal("first.server.pid"),
            StartService(),
            # By the handle itself: a member of a fleet counts the hold also until it comes back.
            Event("held", {"server": {**READY, "pid": Other("first.server.pid")}}),
            Await("{m}", "READY", holds=1),
            call(
                "ready",
                hold="held",
                after=Said("first.server.generation"),
                gives={"server": {**READY, "pid": Other("first.server.pid")}},
            ),
        ],
        connect=PATIENT,
        calls={"Hold": at_least(2), "Get": at_most(1)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a service that drains: the handle goes on at the next one",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            TerminateService(),
            AwaitEnd(),
            StartService(),
            Await("{m}", "READY", holds=1),
            call(
                "ready",
                hold="held",
                after=Said("first.server.generation"),
                gives={"server": {**READY, "pid": Other("first.server.pid")}},
            ),
            StillOpen("held"),
        ],
        connect=PATIENT,
        calls={"Hold": at_least(2), "Get": at_most(1)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a call to a service that is away is made when it is back",
        ALONE,
        [
            call("ensure", model="{m}", name="first"),
            KillService(),
            begin("ensure", "waits", model="{m}"),
            StartService(),
            End("waits", gives={"started": False, "server": {"pid": Said("first.server.pid")}}),
        ],
        connect=PATIENT,
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a service that stays away ends holds and watches when patience is over",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held"),
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
            KillService(),
            End("held", fails=AWAY),
            End("watch", fails=AWAY),
            call("ready", hold="held", fails=AWAY),
        ],
        connect={"patience": 0.3},
    ),
)
