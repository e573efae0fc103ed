"""Keys of servers: a client gets one with the endpoint, and no other call tells it."""

from pool_service.access.server_keys import is_key
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Script, Stay, held, ready
from tests.conformance.expected import Is, Other, Said, at_most
from tests.conformance.kinds import ALONE, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.steps import Event, KillService, Signal, StartService, begin, call

KEY = Is("a key", lambda value: isinstance(value, str) and is_key(value))
READY = {"state": "READY", "api_key": KEY}
WITHOUT = {"state": "READY", "api_key": ""}


def gives_no_keys(script: Script) -> None:
    script.answer("Ensure", pb.EnsureResponse(server=ready(), started=True))
    script.answer("Hold", held(), Stay())


SCENARIOS = (
    Scenario(
        "ensure and hold give the key of a server, by which it answers",
        PLAIN,
        [
            call("ensure", model="{m}", gives={"server": READY}, name="first"),
            begin("hold", "held", model="{m}"),
            call(
                "ready",
                hold="held",
                gives={"server": {"api_key": Said("first.server.api_key")}},
            ),
            call("infer", hold="held", count=3, text="hello", gives={"done": 3, "failed": 0}),
        ],
        calls={"Ensure": 1, "Hold": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "neither list, watch, describe nor evict gives a key",
        PLAIN,
        [
            call("ensure", model="{m}", gives={"server": READY}),
            begin("watch", "watch"),
            Event("watch", {"server": {"model": "{m}", **WITHOUT}}),
            call("describe", model="{m}", gives={"servers": [{"api_key": ""}]}),
            call("evict", model="{m}", gives={"evicted": [{"server": {"api_key": ""}}]}),
        ],
        calls={"Ensure": 1, "Watch": 1, "Describe": 1, "Evict": 1},
    ),
    Scenario(
        "the next process has another key",
        PLAIN,
        [
            begin("hold", "held", model="{m}"),
            call("ready", hold="held", gives={"server": READY}, name="first"),
            Signal("first.server.pid"),
            call(
                "ready",
                hold="held",
                after=Said("first.server.generation"),
                gives={"server": {**READY, "api_key": Other("first.server.api_key")}},
            ),
            call("infer", hold="held", count=3, text="hello", gives={"done": 3, "failed": 0}),
        ],
        calls={"Hold": 1, "Get": at_most(1)},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "the key of a server outlives the service that gave it",
        ALONE,
        [
            call("ensure", model="{m}", gives={"server": READY}, name="first"),
            KillService(),
            StartService(),
            call(
                "ensure",
                model="{m}",
                gives={"started": False, "server": {"api_key": Said("first.server.api_key")}},
            ),
            begin("hold", "held", model="{m}"),
            call("infer", hold="held", count=3, text="hello", gives={"done": 3, "failed": 0}),
        ],
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a server that asks for no key has none",
        gives_no_keys,
        [
            call("ensure", model="m", gives={"server": WITHOUT}),
            begin("hold", "held", model="m"),
            call("ready", hold="held", gives={"server": WITHOUT}),
        ],
        calls={"Ensure": 1, "Hold": 1},
    ),
)
