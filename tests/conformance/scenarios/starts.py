"""The reasons for which a start fails or a service cannot answer, with what comes with each."""

from signal import SIGCONT, SIGSTOP

from tests.conformance.expected import ANY, Said
from tests.conformance.kinds import ALONE, CATALOGUE, FRAIL, PLAIN, SMALL
from tests.conformance.scenario import Scenario
from tests.conformance.steps import (
    Await,
    AwaitEnd,
    AwaitRecovery,
    End,
    Event,
    KillService,
    Limit,
    Signal,
    StartService,
    TerminateService,
    begin,
    call,
    refused,
)

ONCE = {"attempts": 1}
DIES = "x?die=7&say=boom"


SCENARIOS = (
    Scenario(
        "MODEL_TOO_LARGE",
        SMALL,
        [
            call(
                "ensure",
                model="vast",
                fails=refused(
                    "MODEL_TOO_LARGE",
                    "FAILED_PRECONDITION",
                    violations=[{"subject": "memory"}],
                    metadata={"needed_bytes": ANY, "budget_bytes": "100000000"},
                ),
            )
        ],
        calls={"Ensure": 1},
    ),
    Scenario(
        "POOL_FULL",
        SMALL,
        [
            Limit('"1h"', '"5s"'),
            begin("hold", "held", model="first"),
            Event("held", {"server": {"state": "READY"}}),
            call(
                "ensure",
                model="second",
                fails=refused(
                    "POOL_FULL",
                    "RESOURCE_EXHAUSTED",
                    "retry_after",
                    violations=[{"subject": "memory"}],
                ),
            ),
        ],
        connect=ONCE,
        calls={"Hold": 1, "Ensure": 1},
    ),
    Scenario(
        "QUEUE_FULL",
        SMALL,
        [
            begin("hold", "held", model="first"),
            Event("held", {"server": {"state": "READY"}}),
            begin("hold", "waits", model="second"),
            Event("waits", {"server": {"state": "QUEUED", "queue_position": 1}}),
            call(
                "ensure",
                model="third",
                fails=refused(
                    "QUEUE_FULL",
                    "RESOURCE_EXHAUSTED",
                    "retry_after",
                    violations=[{"subject": "queue"}],
                ),
            ),
        ],
        connect=ONCE,
        calls={"Hold": 2, "Ensure": 1},
    ),
    Scenario(
        "RUNTIME_UNAVAILABLE",
        CATALOGUE,
        [
            call(
                "ensure",
                model="{who}/missing",
                fails=refused("RUNTIME_UNAVAILABLE", "FAILED_PRECONDITION", "violations"),
            )
        ],
        calls={"Ensure": 1},
    ),
    Scenario(
        "MODEL_REJECTED",
        PLAIN,
        [
            call(
                "ensure",
                model="{m}",
                runtime_model="x?die=1&say=ValueError:+Model+type+odd+not+supported.",
                fails=refused(
                    "MODEL_REJECTED",
                    "FAILED_PRECONDITION",
                    last_lines=["ValueError: Model type odd not supported."],
                    metadata=("model",),
                ),
            )
        ],
        calls={"Ensure": 1},
        leaves={"{m}": "FAILED"},
    ),
    Scenario(
        "START_FAILED",
        PLAIN,
        [
            call(
                "ensure",
                model="{m}",
                runtime_model=DIES,
                fails=refused(
                    "START_FAILED",
                    "UNAVAILABLE",
                    "retry_after",
                    last_lines=["boom"],
                    metadata=("model",),
                ),
            )
        ],
        connect=ONCE,
        calls={"Ensure": 1},
        leaves={"{m}": "FAILED"},
    ),
    Scenario(
        "START_TIMEOUT",
        CATALOGUE,
        [
            call(
                "ensure",
                model="{who}/never",
                fails=refused("START_TIMEOUT", "UNAVAILABLE", "retry_after", metadata=("model",)),
            )
        ],
        connect=ONCE,
        calls={"Ensure": 1},
    ),
    Scenario(
        "CRASH_LOOP",
        FRAIL,
        [
            call("ensure", model="{m}", runtime_model=DIES, fails={"kind": "StartFailed"}),
            call("ensure", model="{m}", runtime_model=DIES, fails={"kind": "StartFailed"}),
            call(
                "ensure",
                model="{m}",
                runtime_model=DIES,
                fails=refused(
                    "CRASH_LOOP",
                    "FAILED_PRECONDITION",
                    "retry_after",
                    last_lines=["boom"],
                    metadata=("model",),
                ),
            ),
        ],
        connect=ONCE,
        calls={"Ensure": 3},
        leaves={"{m}": "FAILED"},
    ),
    Scenario(
        "EVICTED",
        PLAIN,
        [
            begin("ensure", "waits", model="{m}", runtime_model="x?load_until={gate}"),
            Await("{m}", "STARTING"),
            call("evict", model="{m}", gives={"evicted": [{"server": {"model": "{m}"}}]}),
            End("waits", fails=refused("EVICTED", "ABORTED", metadata=("model",))),
        ],
        calls={"Ensure": 1, "Evict": 1},
        leaves={},
    ),
    Scenario(
        "RECOVERING",
        ALONE,
        [
            call("ensure", model="{m}", name="first"),
            # What is recorded of a later one says that the first one's record is whole.
            call("ensure", model="{n}"),
            KillService(members=True),
            Signal("first.server.pid", SIGSTOP),
            StartService(recovered=False),
            call("connect", name="other", address="{address}", attempts=1),
            call(
                "list",
                client="other",
                fails=refused("RECOVERING", "UNAVAILABLE", "retry_after"),
            ),
            Signal("first.server.pid", SIGCONT),
            AwaitRecovery(),
            call(
                "ensure",
                model="{m}",
                gives={"started": False, "server": {"pid": Said("first.server.pid")}},
            ),
        ],
    ),
    Scenario(
        "SHUTTING_DOWN",
        ALONE,
        [
            begin("ensure", "waits", model="{m}", runtime_model="x?load_until={gate}"),
            begin("watch", "watch"),
            Await("{m}", "STARTING"),
            Event("watch", {"kind": "synced"}),
            TerminateService(),
            End("waits", fails=refused("SHUTTING_DOWN", "UNAVAILABLE", "retry_after")),
            End("watch", fails=refused("SHUTTING_DOWN", "UNAVAILABLE", "retry_after")),
            AwaitEnd(),
        ],
        connect=ONCE,
        calls={"Ensure": 1, "Watch": 1},
    ),
    Scenario(
        "FETCH_FAILED",
        CATALOGUE,
        [
            begin("pull", "pull", model="{who}/broken"),
            End(
                "pull",
                fails=refused("FETCH_FAILED", "UNAVAILABLE", "retry_after", metadata=("model",)),
            ),
        ],
        connect=ONCE,
        calls={"Pull": 1},
    ),
)
