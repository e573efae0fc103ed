"""Where a service is, or is not."""

from tests.conformance.scenario import Scenario
from tests.conformance.steps import End, begin, call, failed
from tests.conformance.worlds import PLAIN

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
        "a program that is no gRPC server is no service either",
        PLAIN,
        [call("ensure", model="m", fails=AWAY)],
        connect={"address": "{stranger}", "attempts": 1},
    ),
)
