"""The handle of a model."""

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Gate, Opens, Script, Stay, held, ready, starting
from tests.conformance.expected import URL, Other, Said, at_most
from tests.conformance.kinds import PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import BROKEN, DIED, ENDING
from tests.conformance.steps import (
    Asked,
    Await,
    End,
    Event,
    Open,
    Signal,
    StillOpen,
    begin,
    call,
    failed,
    refused,
)

GRACE_S = 1.5
"""How long each client waits for the end of a server that is taken for dead."""

READY = {"state": "READY", "endpoint": URL}
EVICTED = refused("EVICTED", "ABORTED", metadata=("model",))
REJECTED = refused("MODEL_REJECTED", "FAILED_PRECONDITION", "last_lines", metadata=("model",))


def dies_twice(script: Script) -> None:
    script.answer("Hold", starting(), DIED)
    script.answer("Hold", starting(), DIED)
    script.answer("Hold", starting(generation=3), held(generation=3), Stay())


def breaks(script: Script) -> None:
    script.answer("Hold", held(), BROKEN)
    script.answer("Hold", starting(), BROKEN)
    script.answer("Hold", starting(), ENDING)
    script.answer("Hold", starting())
    script.answer("Hold", held(generation=2, pid=4712), Stay())


def never_starts(script: Script) -> None:
    script.answer("Hold", starting(), DIED)


def lives(script: Script) -> None:
    script.answer("Hold", held(), Stay())
    script.answer("Get", pb.GetResponse(server=ready(), answers=True))


def is_slow(script: Script) -> None:
    script.answer("Hold", held(), Stay())
    script.answer("Get", pb.GetResponse(server=ready()))


def is_away(script: Script) -> None:
    script.answer("Hold", held(), Stay())
    script.answer("Get", BROKEN)


def dies_late(script: Script) -> None:
    """The next one comes long after the service has told that the first is gone."""
    next_one = Gate()
    script.answer("Hold", held(), next_one, held(generation=2, pid=4712), Stay())
    script.answer("Get", Opens(next_one, 2 * GRACE_S), pb.GetResponse())


SCENARIOS = (
    Scenario(
        "ready returns the server from memory and costs no call",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", gives={"server": {**READY, "model": "{m}"}}, name="first"),
            *[
                call("ready", hold="held", gives={"server": {"pid": Said("first.server.pid")}})
                for _ in range(10)
            ],
        ],
        calls={"Hold": 1},
    ),
    Scenario(
        "ready after a server that lives returns it again, as soon as the service has asked it",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            call(
                "ready",
                hold="held",
                after=Said("first.server.generation"),
                gives={
                    "server": {
                        "pid": Said("first.server.pid"),
                        "endpoint": Said("first.server.endpoint"),
                    }
                },
            ),
        ],
        calls={"Hold": 1, "Get": 1},
    ),
    *(
        Scenario(
            claim,
            script,
            [
                begin("hold", "held", model="m"),
                call("ready", hold="held"),
                call("ready", hold="held", after=1, gives={"server": expected}, takes=takes),
                Asked("Get", [{"model": "m", "check": True}]),
            ],
            calls={"Hold": 1, "Get": 1},
        )
        for claim, script, expected, takes in (
            ("a server that answers is returned again at once", lives, {"pid": 4711}, 0.0),
            (
                "a server that does not answer is returned again after a grace",
                is_slow,
                {"pid": 4711},
                GRACE_S,
            ),
            (
                "a server is returned again after a grace if the service cannot be asked",
                is_away,
                {"pid": 4711},
                GRACE_S,
            ),
            (
                "a server that is gone is not returned again, however long the next one takes",
                dies_late,
                {"pid": 4712},
                2 * GRACE_S,
            ),
        )
    ),
    Scenario(
        "100 inferences cost one call of Hold and no other",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("infer", hold="held", count=100, text="hello", gives={"failed": 0}),
        ],
        calls={"Hold": 1},
    ),
    Scenario(
        "ready waits until the server is READY",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model="x?load_until={gate}"),
            begin("ready", "waits", hold="held"),
            Await("{m}", "STARTING", holds=1),
            StillOpen("waits"),
            Open(),
            End("waits", gives={"server": {**READY, "generation": 1}}),
        ],
        calls={"Hold": 1},
    ),
    Scenario(
        "two holds of one model are two, and each ends by itself",
        PLAIN,
        [
            begin("hold", "one", model="{m}"),
            begin("hold", "other", model="{m}"),
            call("ready", hold="one", name="ready"),
            call("ready", hold="other", gives={"server": {"pid": Said("ready.server.pid")}}),
            Await("{m}", "READY", holds=2),
            call("release", hold="one"),
            End("one", gives={}),
            Await("{m}", "READY", holds=1),
            StillOpen("other"),
        ],
        calls={"Hold": 2},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "closing the client releases its holds",
        PLAIN,
        [
            call("connect", name="other", address="{address}"),
            begin("hold", "held", model="{m}", client="other"),
            call("ready", hold="held"),
            call("close", client="other"),
            Await("{m}", "READY", holds=0),
        ],
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a hold that is given up is released",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held"),
            call("cancel", target="held", gives={}),
            End("held", fails=failed("Cancelled", "CANCELLED")),
            Await("{m}", "READY", holds=0),
        ],
        calls={"Hold": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a start that is refused ends the hold, and the next call gets the error",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model="x?die=1&say=ValueError:+bad+weights"),
            End("held", fails=REJECTED),
            call("ready", hold="held", fails=REJECTED),
        ],
        calls={"Hold": 1},
        leaves={"{m}": "FAILED"},
    ),
    Scenario(
        "an eviction by force ends a hold, which is not begun again",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held"),
            call("evict", model="{m}", force=True, gives={"evicted": [{"killed": False}]}),
            End("held", fails=EVICTED),
            call("ready", hold="held", fails=EVICTED),
        ],
        calls={"Hold": 1, "Evict": 1},
        leaves={},
    ),
    Scenario(
        "a start that fails is retried, until it is READY",
        dies_twice,
        [
            begin("hold", "held", model="m"),
            call("ready", hold="held", gives={"server": {"generation": 3}}),
        ],
        calls={"Hold": 3},
    ),
    Scenario(
        "a start that always fails is given up after some retries",
        never_starts,
        [
            begin("hold", "held", model="m"),
            End("held", fails={"kind": "StartFailed"}),
        ],
        connect={"attempts": 3},
        calls={"Hold": 3},
    ),
    Scenario(
        "a stream that breaks is opened again, though nobody reads it",
        breaks,
        [
            begin("hold", "held", model="m", holder="me"),
            Event("held", {"server": {"generation": 2}}),
            call("ready", hold="held", gives={"server": {"pid": 4712}}),
            Asked("Hold", [{"model": "m", "holder": "me"}] * 5),
        ],
        connect={"attempts": 2},
        calls={"Hold": 5},
    ),
    Scenario(
        "a server that is killed is replaced through the handle",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", name="first"),
            Signal("first.server.pid"),
            call(
                "ready",
                hold="held",
                after=Said("first.server.generation"),
                gives={"server": {**READY, "generation": 2, "pid": Other("first.server.pid")}},
            ),
            Event(
                "held",
                {"server": {**READY, "generation": 2, "last_exit": {"cause": "CRASHED"}}},
            ),
        ],
        calls={"Hold": 1, "Get": at_most(1)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "ready after a server waits no longer than it may",
        is_slow,
        [
            begin("hold", "held", model="m"),
            call("ready", hold="held"),
            call(
                "ready",
                hold="held",
                after=1,
                timeout=0.1,
                fails=failed("DeadlineExceeded", "DEADLINE_EXCEEDED"),
            ),
            StillOpen("held"),
        ],
        calls={"Hold": 1, "Get": 1},
    ),
)
