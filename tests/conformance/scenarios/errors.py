"""Every reason that the service gives, with its code and what comes with it."""

from signal import SIGCONT, SIGSTOP

from tests.client.scripted import Script
from tests.conformance.expected import ANY, Said, saying
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import BUG, INVALID
from tests.conformance.steps import (
    Ask,
    Await,
    AwaitEnd,
    AwaitRecovery,
    Configure,
    End,
    Event,
    KillService,
    Signal,
    StartService,
    TerminateService,
    begin,
    call,
    refused,
)
from tests.conformance.worlds import ALONE, CATALOGUE, PLAIN, SMALL

ONCE = {"attempts": 1}
DIES = "x?die=7&say=boom"


def invalid(field: str) -> object:
    return refused(
        f"INVALID_{field.upper()}",
        "INVALID_ARGUMENT",
        "violations",
        violations=[{"subject": field, "description": saying(field)}],
    )


def bugs(script: Script) -> None:
    script.answer("Ensure", BUG)


def invalid_fields(script: Script) -> None:
    for each in INVALID:
        script.answer("Evict", each)


SCENARIOS = (
    Scenario(
        "INVALID_MODEL, INVALID_RUNTIME_MODEL, INVALID_KEEP_ALIVE, INVALID_PAGE_SIZE",
        PLAIN,
        [
            call("ensure", model="--x", fails=invalid("model")),
            call("evict", model="", fails=invalid("model")),
            call("ensure", model="{m}", runtime_model="--x", fails=invalid("runtime_model")),
            call("ensure", model="{m}", keep_alive=1e9, fails=invalid("keep_alive")),
            call("list", page_size=-1, fails=invalid("page_size")),
        ],
        calls={"Ensure": 3, "Evict": 1, "List": 1},
        leaves={},
    ),
    Scenario(
        "INVALID_HOLDER, and INVALID_MODEL of a pull",
        PLAIN,
        [
            begin("hold", "held", model="{m}", holder="h" * 200),
            End("held", fails=invalid("holder")),
            begin("pull", "pull", model=" x"),
            End("pull", fails=invalid("model")),
        ],
        calls={"Hold": 1, "Pull": 1},
        leaves={},
    ),
    Scenario(
        "INVALID_TARGET, INVALID_FORCE, INVALID_PAGE_TOKEN are InvalidRequest",
        invalid_fields,
        [
            call("evict", model="m", fails=invalid("target")),
            call("evict", model="m", fails=invalid("force")),
            call("evict", model="m", fails=invalid("page_token")),
        ],
        calls={"Evict": 3},
    ),
    Scenario(
        "MODEL_UNKNOWN",
        CATALOGUE,
        [
            call(
                "ensure",
                model="{m}",
                fails=refused("MODEL_UNKNOWN", "NOT_FOUND", metadata=("model",)),
            )
        ],
        calls={"Ensure": 1},
    ),
    Scenario(
        "RUNTIME_MODEL_CONFLICT",
        PLAIN,
        [
            call("ensure", model="{m}"),
            call(
                "ensure",
                model="{m}",
                runtime_model="other",
                fails=refused(
                    "RUNTIME_MODEL_CONFLICT",
                    "FAILED_PRECONDITION",
                    violations=[{"kind": "RUNTIME_MODEL", "subject": "{m}"}],
                    metadata={"model": "{m}", "running": "{m}", "asked": "other"},
                ),
            ),
        ],
        calls={"Ensure": 2},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "SERVER_IN_USE, of a server that is held",
        PLAIN,
        [
            begin("hold", "held", model="{m}", holder="the holder"),
            Event("held", {"server": {"state": "READY"}}),
            call(
                "evict",
                model="{m}",
                fails=refused(
                    "SERVER_IN_USE",
                    "FAILED_PRECONDITION",
                    violations=[{"kind": "UNUSED", "subject": "{m}"}],
                    metadata={"requests": "0", "holds": "1", "holders": "the holder"},
                ),
            ),
        ],
        calls={"Hold": 1, "Evict": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "SERVER_IN_USE, of a server that is busy",
        PLAIN,
        [
            call("ensure", model="{m}", runtime_model="x?delay=0.05", name="first"),
            Ask("first.server", tokens=100_000),
            call(
                "evict",
                model="{m}",
                fails=refused(
                    "SERVER_IN_USE",
                    "FAILED_PRECONDITION",
                    violations=[{"kind": "UNUSED", "subject": "{m}"}],
                    metadata={"requests": "1", "holds": "0", "holders": ""},
                ),
            ),
        ],
        calls={"Ensure": 1, "Evict": 1},
        leaves={"{m}": "READY"},
    ),
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
            Configure(old='"1h"', new='"200ms"'),
            call("reload"),
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
        calls={"Reload": 1, "Hold": 1, "Ensure": 1},
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
        PLAIN,
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
            KillService(),
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
        "REVISION_COMPACTED",
        PLAIN,
        [
            begin("watch", "watch", after_revision=1),
            End(
                "watch",
                fails=refused("REVISION_COMPACTED", "OUT_OF_RANGE", metadata=("oldest", "newest")),
            ),
        ],
        calls={"Watch": 1},
    ),
    Scenario(
        "MODEL_NOT_ON_DISK",
        CATALOGUE,
        [
            call(
                "ensure",
                model="{who}/absent",
                fails=refused("MODEL_NOT_ON_DISK", "FAILED_PRECONDITION", metadata=("model",)),
            )
        ],
        calls={"Ensure": 1},
    ),
    Scenario(
        "CODE_NOT_TRUSTED",
        CATALOGUE,
        [
            call(
                "ensure",
                model="{who}/code",
                fails=refused(
                    "CODE_NOT_TRUSTED",
                    "FAILED_PRECONDITION",
                    violations=[{"kind": "TRUST", "subject": "{who}/code"}],
                    metadata={"files": saying("own.py")},
                ),
            )
        ],
        calls={"Ensure": 1},
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
    Scenario(
        "CONFIG_INVALID",
        ALONE,
        [
            Configure("[nonsense]\na = 1\n"),
            call(
                "reload",
                fails=refused("CONFIG_INVALID", "FAILED_PRECONDITION", message=saying("nonsense")),
            ),
        ],
        calls={"Reload": 1},
    ),
    Scenario(
        "INTERNAL, with the id of the request",
        bugs,
        [
            call(
                "ensure",
                model="m",
                fails=refused("INTERNAL", "INTERNAL", request_id="request-17"),
            )
        ],
        calls={"Ensure": 1},
    ),
)
