"""What is tried again and what is not, limits of time, and giving up."""

from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Refusal, Script, Stay, Step, changed, ready, retry_after, synced
from tests.conformance.expected import URL
from tests.conformance.kinds import PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import (
    BROKEN,
    BUG,
    COMPACTED,
    DIED,
    DROPPED,
    ENDING,
    EVICTED,
    FULL,
    REJECTED,
)
from tests.conformance.steps import (
    Asked,
    Await,
    End,
    Event,
    FirstEvent,
    Open,
    StillOpen,
    begin,
    call,
    failed,
    refused,
)

READY = pb.EnsureResponse(server=ready(), started=True)
LATER = Refusal(StatusCode.UNAVAILABLE, "it died", "START_FAILED", (retry_after(30),))
SLOWLY = Refusal(StatusCode.UNAVAILABLE, "it died", "START_FAILED", (retry_after(0.3),))
LATE = failed("DeadlineExceeded", "DEADLINE_EXCEEDED")
SUPERSEDED = {"model": "m", "generation": 1, "role": "SUPERSEDED"}
CURRENT = {"model": "m", "generation": 2, "role": "CURRENT"}
GATED = "x?load_until={gate}"


class Answers:
    """A script that answers Ensure so, call by call; the last answer is repeated."""

    def __init__(self, *steps: Step) -> None:
        self._steps = steps

    def __call__(self, script: Script) -> None:
        for step in self._steps:
            script.answer("Ensure", step)


def tried_again(claim: str, failure: Refusal) -> Scenario:
    return Scenario(
        claim,
        Answers(failure, failure, READY),
        [call("ensure", model="m", gives={"started": True})],
        calls={"Ensure": 3},
    )


def watched(script: Script) -> None:
    script.answer("Watch", changed(7), synced(7), changed(8, generation=2), BROKEN)
    script.answer("Watch", ENDING)
    script.answer("Watch", DROPPED)
    script.answer("Watch", changed(9, generation=3), Stay())


def begun_anew(script: Script) -> None:
    script.answer("Watch", changed(7, "a"), changed(7, "b"), synced(7), BROKEN)
    script.answer("Watch", COMPACTED)
    script.answer("Watch", changed(20, "b"), synced(20), Stay())


def begun_anew_while_replaced(script: Script) -> None:
    old = changed(7, generation=1, role=pb.SERVER_ROLE_SUPERSEDED)
    new = changed(7, generation=2, role=pb.SERVER_ROLE_CURRENT)
    script.answer("Watch", old, new, synced(7), BROKEN)
    script.answer("Watch", COMPACTED)
    still = changed(20, generation=2, role=pb.SERVER_ROLE_CURRENT)
    script.answer("Watch", still, synced(20), Stay())


SCENARIOS = (
    tried_again("UNAVAILABLE with a reason is retried", DIED),
    tried_again("UNAVAILABLE without a reason is retried", BROKEN),
    tried_again("every error with a RetryInfo is retried", FULL),
    tried_again("a call that an ending service dropped is retried", DROPPED),
    Scenario(
        "nothing else is retried",
        Answers(REJECTED, EVICTED, BUG, Refusal(StatusCode.RESOURCE_EXHAUSTED, "no"), READY),
        [
            call("ensure", model="m", fails={"kind": "ModelRejected"}),
            call("ensure", model="m", fails={"kind": "Evicted"}),
            call("ensure", model="m", fails={"kind": "Internal"}),
            call("ensure", model="m", fails=failed("PoolError", "RESOURCE_EXHAUSTED")),
        ],
        calls={"Ensure": 4},
    ),
    Scenario(
        "with attempts = 1 nothing is retried",
        Answers(DIED, READY),
        [call("ensure", model="m", fails={"kind": "StartFailed"})],
        connect={"attempts": 1},
        calls={"Ensure": 1},
    ),
    Scenario(
        "attempts bounds how often a call is made",
        Answers(DIED),
        [call("ensure", model="m", fails={"kind": "StartFailed"})],
        connect={"attempts": 3},
        calls={"Ensure": 3},
    ),
    Scenario(
        "no retry comes before the time that the service named",
        Answers(SLOWLY, READY),
        [call("ensure", model="m", takes=0.3, gives={"started": True})],
        calls={"Ensure": 2},
    ),
    Scenario(
        "without a limit, failures are retried until patience is over",
        Answers(LATER),
        [call("ensure", model="m", fails={"kind": "StartFailed"})],
        connect={"patience": 5},
        calls={"Ensure": 1},
    ),
    Scenario(
        "within a limit, retries go on though patience is over",
        Answers(DIED, DIED, READY),
        [call("ensure", model="m", timeout=30, gives={"started": True})],
        connect={"patience": 0},
        calls={"Ensure": 3},
    ),
    Scenario(
        "no wait is begun that would outlast the limit: the failure is returned instead",
        Answers(LATER),
        [call("ensure", model="m", timeout=10, fails={"kind": "StartFailed"})],
        calls={"Ensure": 1},
    ),
    Scenario(
        "the limit is of the whole call",
        Answers(DIED, DIED, Stay()),
        [call("ensure", model="m", timeout=10, takes=10, fails=LATE)],
        calls={"Ensure": 3},
    ),
    Scenario(
        "a limit ends each call",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model=GATED),
            Await("{m}", "STARTING"),
            call("ensure", model="{m}", timeout=0.1, fails=LATE),
            call("ready", hold="held", timeout=0.1, fails=LATE),
            StillOpen("held"),
        ],
        calls={"Hold": 1, "Ensure": 1},
        leaves={"{m}": "STARTING"},
    ),
    Scenario(
        "a start goes on though its callers have given up",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model=GATED),
            Await("{m}", "STARTING"),
            call("ensure", model="{m}", timeout=0.1, fails=LATE),
            call("release", hold="held"),
            Await("{m}", "STARTING", holds=0),
            Open(),
            Await("{m}", "READY"),
            call("ensure", model="{m}", gives={"started": False, "server": {"generation": 1}}),
        ],
        calls={"Hold": 1, "Ensure": 2},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a call that is given up ends at once, and the start goes on",
        PLAIN,
        [
            begin("ensure", "waits", model="{m}", runtime_model=GATED),
            Await("{m}", "STARTING"),
            call("cancel", target="waits", gives={}),
            End("waits", fails=failed("Cancelled", "CANCELLED")),
            Open(),
            Await("{m}", "READY"),
            call("ensure", model="{m}", gives={"started": False, "server": {"endpoint": URL}}),
        ],
        calls={"Ensure": 2},
        leaves={"{m}": "READY"},
        cancels=True,
    ),
    Scenario(
        "a watch that is given up ends at once",
        PLAIN,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
            call("cancel", target="watch", gives={}),
            End("watch", fails=failed("Cancelled", "CANCELLED")),
        ],
        calls={"Watch": 1},
    ),
    Scenario(
        "a watch that breaks goes on after the last revision it saw",
        watched,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced", "revision": 7}),
            FirstEvent("watch", {"kind": "changed", "revision": 8, "server": {"generation": 2}}),
            FirstEvent("watch", {"kind": "changed", "revision": 9, "server": {"generation": 3}}),
            StillOpen("watch"),
            Asked(
                "Watch", [{}, {"after_revision": 8}, {"after_revision": 8}, {"after_revision": 8}]
            ),
        ],
        calls={"Watch": 4},
    ),
    Scenario(
        "a watch whose history is gone begins again, and first reports servers that are gone",
        begun_anew,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced", "revision": 7}),
            FirstEvent("watch", {"kind": "changed", "revision": 20, "server": {"model": "b"}}),
            FirstEvent("watch", {"kind": "removed", "revision": 20, "server": {"model": "a"}}),
            FirstEvent("watch", {"kind": "synced", "revision": 20}),
            Asked("Watch", [{}, {"after_revision": 7}, {}]),
        ],
        calls={"Watch": 3},
    ),
    Scenario(
        "a watch that begins again reports only the one of a model's two servers that is gone",
        begun_anew_while_replaced,
        [
            begin("watch", "watch"),
            FirstEvent("watch", {"kind": "changed", "server": SUPERSEDED}),
            FirstEvent("watch", {"kind": "changed", "server": CURRENT}),
            FirstEvent("watch", {"kind": "synced", "revision": 7}),
            FirstEvent("watch", {"kind": "changed", "revision": 20, "server": CURRENT}),
            FirstEvent("watch", {"kind": "removed", "revision": 20, "server": SUPERSEDED}),
            FirstEvent("watch", {"kind": "synced", "revision": 20}),
        ],
        calls={"Watch": 3},
    ),
    Scenario(
        "a watch after a revision whose history is gone ends with that",
        begun_anew,
        [
            begin("watch", "watch", after_revision=5),
            Event("watch", {"kind": "synced", "revision": 7}),
            End("watch", fails=refused("REVISION_COMPACTED", "OUT_OF_RANGE")),
        ],
        calls={"Watch": 2},
    ),
)
