"""Where a service is, or is not."""

from tests.conformance.homes import DEAD, OPEN, OWN
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
