"""Where a service is, or is not."""

from collections.abc import Mapping
from typing import Any

from tests.conformance.expected import Other, Said, at_least, saying
from tests.conformance.homes import DEAD, NONE, OPEN, OWN
from tests.conformance.kinds import ALONE, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.steps import End, Event, KillService, begin, call, failed

NOT_STARTED = failed("ServiceNotStarted", "UNAVAILABLE")
STARTED: Mapping[str, Any] = {
    "program": "{program}",
    "start": ["--listen", "127.0.0.1:0", "--state-dir", "{state}", "--config", "{configuration}"],
}
AWAY = failed("PoolUnavailable", "UNAVAILABLE")

SCENARIOS = (
    Scenario(
        "a unix socket",
        PLAIN,
        [call("ensure", model="{m}", gives={"started": True})],
        connect={"address": "{socket}"},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "without an address, the environment's is used",
        PLAIN,
        [call("ensure", model="{m}", gives={"started": True})],
        connect={"address": None},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a unix socket whose path has spaces",
        PLAIN,
        [call("ensure", model="{m}", gives={"started": True})],
        connect={"address": "{spaced}"},
        leaves={"{m}": "READY"},
    ),
    *(
        Scenario(
            claim,
            PLAIN,
            [call("ensure", model="{m}", gives={"started": True})],
            connect={"address": None},
            leaves={"{m}": "READY"},
            home=home,
        )
        for claim, home in (
            ("without any address, the socket of the user's own service is found", OWN),
            ("a socket on which nobody listens is passed over, and the next one found", DEAD),
            ("a socket in a directory that others can enter is passed over", OPEN),
        )
    ),
    Scenario(
        "where nobody listens, connect_or_start starts one service, however many clients ask",
        PLAIN,
        [
            *[begin("connect", name, **STARTED) for name in ("one", "two", "three")],
            *[End(name, gives={}) for name in ("one", "two", "three")],
            call("ensure", client="one", model="{m}", gives={"started": True}, name="first"),
            call("list", client="two", gives={"servers": [{"pid": Said("first.server.pid")}]}),
            call("list", client="three", gives={"servers": [{"pid": Said("first.server.pid")}]}),
        ],
        home=NONE,
        no_front="what is started is a service, and no front",
    ),
    Scenario(
        "connect_or_start uses the socket of the user's own service, and runs nothing",
        PLAIN,
        [
            call("connect", name="started", start=[], program="{gate}", gives={}),
            call("ensure", client="started", model="{m}", gives={"started": True}),
        ],
        connect={"address": None},
        leaves={"{m}": "READY"},
        home=OWN,
    ),
    Scenario(
        "connect_or_start says what keeps the service from starting",
        PLAIN,
        [
            call("connect", name="none", start=[], program="{gate}", fails=NOT_STARTED),
            call(
                "connect",
                name="refused",
                program="{program}",
                start=["--config", "{gate}"],
                fails={**NOT_STARTED, "message": saying("/gate")},
            ),
        ],
        home=NONE,
        no_front="what is started is a service, and no front",
    ),
    Scenario(
        "where nobody listens, each call says that the service cannot be reached",
        PLAIN,
        [
            call("ensure", model="m", fails=AWAY),
            call("evict", model="m", fails=AWAY),
            call("list", fails=AWAY),
            call("models", fails=AWAY),
            call("reload", fails=AWAY),
            begin("watch", "watch"),
            End("watch", fails=AWAY),
            begin("hold", "held", model="m"),
            End("held", fails=AWAY),
            begin("pull", "pull", model="m"),
            End("pull", fails=AWAY),
        ],
        connect={"address": "{nobody}", "attempts": 1},
    ),
    Scenario(
        "of several addresses the first is called that answers",
        PLAIN,
        [
            call("ensure", model="{m}", gives={"started": True}),
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", gives={"server": {"state": "READY"}}),
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
        ],
        connect={"address": "{nobody},{stranger}, {address}", "attempts": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "of several addresses the next one is called when one fails, and holds go on there",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            KillService(),
            Event("held", {"server": {"state": "READY", "pid": Other("first.server.pid")}}),
            call("ensure", model="{m}", gives={"started": False}, name="second"),
            call("ready", hold="held", gives={"server": {"pid": Said("second.server.pid")}}),
        ],
        connect={"address": "{address},{plain}", "attempts": 1},
        calls={"Hold": at_least(2), "Ensure": at_least(1)},
    ),
    Scenario(
        "a program that is no gRPC server is no service either",
        PLAIN,
        [call("ensure", model="m", fails=AWAY)],
        connect={"address": "{stranger}", "attempts": 1},
    ),
)
