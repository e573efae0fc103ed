"""The reasons for which a request is refused at once, with what comes with each."""

from grpc import StatusCode

from tests.client.scripted import Refusal, Script
from tests.conformance.expected import saying
from tests.conformance.kinds import ALONE, CATALOGUE, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.answers import BUG, INVALID
from tests.conformance.steps import (
    Ask,
    Configure,
    End,
    Event,
    begin,
    call,
    refused,
)


def invalid(field: str) -> object:
    return refused(
        f"INVALID_{field.upper()}",
        "INVALID_ARGUMENT",
        "violations",
        violations=[{"subject": field, "description": saying(field)}],
    )


def pins_full(script: Script) -> None:
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "no more is remembered", "TOO_MANY_PINS")
    script.answer("Pin", refusal)


def strangers(script: Script) -> None:
    unauthenticated = StatusCode.UNAUTHENTICATED
    script.answer("Ensure", Refusal(unauthenticated, "who calls?", "TOKEN_MISSING"))
    script.answer("Ensure", Refusal(unauthenticated, "it was revoked", "TOKEN_UNKNOWN"))
    script.answer("Ensure", Refusal(unauthenticated, "no such name", "CERTIFICATE_UNKNOWN"))


def not_allowed(script: Script) -> None:
    refusal = Refusal(StatusCode.PERMISSION_DENIED, "that needs admin", "SCOPE_MISSING")
    script.answer("Evict", refusal)


def fleet_only(script: Script) -> None:
    refusal = Refusal(StatusCode.FAILED_PRECONDITION, "call the front", "FLEET_ONLY")
    script.answer("Ensure", refusal)


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
        "INVALID_HOLDER, and INVALID_MODEL of a pull and of a pin",
        PLAIN,
        [
            begin("hold", "held", model="{m}", holder="h" * 200),
            End("held", fails=invalid("holder")),
            begin("pull", "pull", model=" x"),
            End("pull", fails=invalid("model")),
            call("pin", model="-x", pinned=True, fails=invalid("model")),
        ],
        calls={"Hold": 1, "Pin": 1, "Pull": 1},
        leaves={},
    ),
    Scenario(
        "INVALID_TARGET, INVALID_FORCE, INVALID_PAGE_TOKEN, INVALID_BEGIN are InvalidRequest",
        invalid_fields,
        [
            call("evict", model="m", fails=invalid("target")),
            call("evict", model="m", fails=invalid("force")),
            call("evict", model="m", fails=invalid("page_token")),
            call("evict", model="m", fails=invalid("begin")),
        ],
        calls={"Evict": 4},
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
        "TOO_MANY_PINS",
        pins_full,
        [
            call(
                "pin",
                model="m",
                pinned=True,
                fails=refused("TOO_MANY_PINS", "FAILED_PRECONDITION", metadata=("model",)),
            )
        ],
        calls={"Pin": 1},
    ),
    Scenario(
        "TOKEN_MISSING, TOKEN_UNKNOWN, CERTIFICATE_UNKNOWN are not retried",
        strangers,
        [
            call("ensure", model="m", fails=refused("TOKEN_MISSING", "UNAUTHENTICATED")),
            call("ensure", model="m", fails=refused("TOKEN_UNKNOWN", "UNAUTHENTICATED")),
            call("ensure", model="m", fails=refused("CERTIFICATE_UNKNOWN", "UNAUTHENTICATED")),
        ],
        calls={"Ensure": 3},
    ),
    Scenario(
        "SCOPE_MISSING",
        not_allowed,
        [call("evict", model="m", fails=refused("SCOPE_MISSING", "PERMISSION_DENIED"))],
        calls={"Evict": 1},
    ),
    Scenario(
        "FLEET_ONLY",
        fleet_only,
        [
            call(
                "ensure",
                model="m",
                fails=refused("FLEET_ONLY", "FAILED_PRECONDITION", metadata=("model",)),
            )
        ],
        calls={"Ensure": 1},
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
