"""Tokens: what callers show of themselves, and what they may do with it."""

from google.rpc.error_details_pb2 import QuotaFailure
from grpc import StatusCode

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Refusal, Script, ready
from tests.conformance.expected import URL, saying
from tests.conformance.kinds import GUARDED, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import SOON
from tests.conformance.steps import (
    SOMETHING,
    End,
    Event,
    Write,
    begin,
    call,
    refused,
)

READY = {"state": "READY", "endpoint": URL}
MISSING = refused("TOKEN_MISSING", "UNAUTHENTICATED")
UNKNOWN = refused("TOKEN_UNKNOWN", "UNAUTHENTICATED")
ADMIN_NEEDED = refused(
    "SCOPE_MISSING", "PERMISSION_DENIED", metadata={"needed": "admin", "scope": "use"}
)
USE_NEEDED = refused(
    "SCOPE_MISSING", "PERMISSION_DENIED", metadata={"needed": "use", "scope": "read"}
)
QUOTA = Refusal(
    StatusCode.RESOURCE_EXHAUSTED,
    "as many as it may have",
    "QUOTA_EXCEEDED",
    (QuotaFailure(violations=[QuotaFailure.Violation(subject="holds", description="8")]), *SOON),
)


def quota_exceeded(script: Script) -> None:
    for answer in (QUOTA, QUOTA, pb.EnsureResponse(server=ready(), started=True), QUOTA):
        script.answer("Ensure", answer)


SCENARIOS = (
    Scenario(
        "each call without a token is TOKEN_MISSING, and not retried",
        GUARDED,
        [
            call("ensure", model="{who}/one", fails=MISSING),
            call("evict", model="{who}/one", fails=MISSING),
            call("list", fails=MISSING),
            call("models", fails=MISSING),
            call("describe", model="{who}/one", fails=MISSING),
            call("reload", fails=MISSING),
            begin("watch", "watch"),
            End("watch", fails=MISSING),
            begin("hold", "held", model="{who}/one"),
            End("held", fails=MISSING),
        ],
        calls={
            "Ensure": 1,
            "Evict": 1,
            "List": 1,
            "ListModels": 1,
            "Describe": 1,
            "Reload": 1,
            "Watch": 1,
            "Hold": 1,
        },
    ),
    Scenario(
        "a token that the service does not know is TOKEN_UNKNOWN",
        GUARDED,
        [
            call("list", fails=UNKNOWN),
            begin("watch", "watch"),
            End("watch", fails=UNKNOWN),
        ],
        connect={"token": "{unknown}"},
        calls={"List": 1, "Watch": 1},
    ),
    Scenario(
        "a token is shown by every call and every stream",
        GUARDED,
        [
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
            begin("hold", "held", model="{who}/one"),
            Event("held", {"server": READY}),
            Event("watch", {"kind": "changed", "server": {**READY, "model": "{who}/one"}}),
            call("ensure", model="{who}/one", gives={"started": False, "server": READY}),
            call("list"),
            call("models"),
            call("describe", model="{who}/one"),
            call("release", hold="held"),
            End("held", gives={}),
            call("evict", model="{who}/one", gives={"evicted": [{"server": {}}]}),
        ],
        connect={"token": "{use}"},
        calls={
            "Watch": 1,
            "Hold": 1,
            "Ensure": 1,
            "List": 1,
            "ListModels": 1,
            "Describe": 1,
            "Evict": 1,
        },
    ),
    Scenario(
        "a token is shown by a unix socket, too",
        GUARDED,
        [
            call("list"),
            call("connect", name="nobody", address="{socket}", gives={}),
            call("list", client="nobody", fails=MISSING),
        ],
        connect={"address": "{socket}", "token": "{read}"},
        calls={"List": 1},
    ),
    Scenario(
        "SCOPE_MISSING says which scope a call needs, and which the token has",
        GUARDED,
        [
            call("list"),
            call("ensure", model="{who}/two", fails=USE_NEEDED),
            begin("hold", "held", model="{who}/two"),
            End("held", fails=USE_NEEDED),
            call("connect", name="user", address="{address}", token="{use}", gives={}),
            call("reload", client="user", fails=ADMIN_NEEDED),
        ],
        connect={"token": "{read}"},
        calls={"List": 1, "Ensure": 1, "Hold": 1},
    ),
    Scenario(
        "QUOTA_EXCEEDED is retried after its delay",
        quota_exceeded,
        [
            call("ensure", model="m", gives={"started": True}),
            call("connect", name="once", address="{address}", attempts=1, gives={}),
            call(
                "ensure",
                client="once",
                model="m",
                fails=refused(
                    "QUOTA_EXCEEDED",
                    "RESOURCE_EXHAUSTED",
                    "retry_after",
                    "violations",
                    metadata=("model",),
                ),
            ),
        ],
        calls={"Ensure": 3},
    ),
    Scenario(
        "a token file that is replaced counts from the next call on",
        GUARDED,
        [
            Write(" {unknown}\n"),
            call("connect", name="client", address="{address}", token_file="{file}", gives={}),
            call("list", client="client", fails=UNKNOWN),
            Write("{read}\n"),
            call("list", client="client"),
            call("ensure", client="client", model="{who}/two", fails=USE_NEEDED),
            Write("{admin}"),
            call("reload", client="client"),
            # What cannot be used changes nothing.
            Write(""),
            call("reload", client="client"),
        ],
        calls={},
    ),
    Scenario(
        "a token file that others may read is refused, with what to do about it",
        PLAIN,
        [
            Write("{use}", mode=0o644),
            call(
                "connect",
                name="client",
                address="{address}",
                token_file="{file}",
                fails={"message": saying("chmod 600 ")},
            ),
        ],
        calls={},
    ),
    Scenario(
        "a token file that is not there, a text that is no token, and both at once are refused",
        PLAIN,
        [
            call(
                "connect",
                name="client",
                address="{address}",
                token_file="{file}",
                fails={"message": saying("token")},
            ),
            call(
                "connect",
                name="client",
                address="{address}",
                token="two words",
                fails={"message": SOMETHING},
            ),
            Write("{use}"),
            call(
                "connect",
                name="client",
                address="{address}",
                token="{use}",
                token_file="{file}",
                fails={"message": SOMETHING},
            ),
        ],
        calls={},
    ),
)
