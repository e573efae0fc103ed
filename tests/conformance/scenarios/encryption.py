"""TLS: which services are trusted, and who is known by a certificate."""

from collections.abc import Mapping
from typing import Any

from tests.conformance.expected import saying
from tests.conformance.kinds import CERTIFIED, ENCRYPTED
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.access import MISSING, READY, UNKNOWN, USE_NEEDED
from tests.conformance.scenarios.addresses import AWAY
from tests.conformance.steps import SOMETHING, Do, End, Event, begin, call, refused

TRUSTING: Mapping[str, Any] = {"address": "{encrypted}", "ca": "{secrets}/services.pem"}
UNNAMED = "{unnamed}"
"""Where the same service listens, by a name that its certificate does not have."""

AWAY_FOR = {**AWAY, "message": saying("certificate")}


def showing(name: str) -> Mapping[str, Any]:
    """How a client connects that shows a certificate."""
    return {**TRUSTING, "cert": f"{{secrets}}/{name}.pem", "key": f"{{secrets}}/{name}.key"}


def refuses(told: object, **options: Any) -> Do:
    """A client is not even made."""
    return call("connect", name="client", fails={"message": told}, **options)


SCENARIOS = (
    Scenario(
        "by TLS a token is enough",
        ENCRYPTED,
        [
            call("list"),
            begin("watch", "watch"),
            Event("watch", {"kind": "synced"}),
            call("ensure", model="{who}/two", fails=USE_NEEDED),
            call("connect", name="nobody", **TRUSTING, gives={}),
            call("list", client="nobody", fails=MISSING),
            call("connect", name="unknown", **TRUSTING, token="{unknown}", gives={}),
            call("list", client="unknown", fails=UNKNOWN),
        ],
        connect={**TRUSTING, "token": "{read}"},
        calls={"List": 1, "Watch": 1, "Ensure": 1},
    ),
    Scenario(
        "by TLS a certificate is enough, which is shown with every call and stream",
        CERTIFIED,
        [
            begin("hold", "held", model="{who}/one"),
            Event("held", {"server": READY}),
            call("ensure", model="{who}/one", gives={"started": False, "server": READY}),
            call("list"),
            call("release", hold="held"),
            End("held", gives={}),
            call("evict", model="{who}/one", gives={"evicted": [{"server": {}}]}),
        ],
        connect=showing("engine"),
        calls={"Hold": 1, "Ensure": 1, "List": 1, "Evict": 1},
    ),
    Scenario(
        "a token decides also beside a certificate",
        CERTIFIED,
        [call("list"), call("ensure", model="{who}/two", fails=USE_NEEDED)],
        connect={**showing("engine"), "token": "{read}"},
        calls={"List": 1, "Ensure": 1},
    ),
    Scenario(
        "a certificate that is no client's is CERTIFICATE_UNKNOWN, and not retried",
        CERTIFIED,
        [
            call(
                "list",
                fails=refused(
                    "CERTIFICATE_UNKNOWN",
                    "UNAUTHENTICATED",
                    metadata={"names": "spiffe://home/nobody"},
                ),
            )
        ],
        connect=showing("nobody"),
        calls={"List": 1},
    ),
    Scenario(
        "without a certificate of the service's authority there is no connection",
        CERTIFIED,
        [
            call("list", fails=AWAY),
            call("connect", name="stranger", **showing("stranger"), attempts=1, gives={}),
            call("list", client="stranger", fails=AWAY),
        ],
        connect={**TRUSTING, "attempts": 1},
    ),
    Scenario(
        "a service of another authority, or of another name, is not called",
        ENCRYPTED,
        [
            call("list", fails=AWAY_FOR),
            call(
                "connect",
                name="other name",
                **TRUSTING,
                server_name="other.test",
                attempts=1,
                gives={},
            ),
            call("list", client="other name", fails=AWAY_FOR),
        ],
        connect={**TRUSTING, "ca": "{secrets}/others.pem", "attempts": 1, "token": "{read}"},
    ),
    Scenario(
        "a service can be known by another name than its address has",
        ENCRYPTED,
        [call("list")],
        connect={**TRUSTING, "server_name": "pool.test", "token": "{read}"},
        calls={"List": 1},
    ),
    Scenario(
        "of several addresses each has to prove its own name",
        ENCRYPTED,
        [
            call("list"),
            call(
                "connect", name="nowhere", **{**TRUSTING, "address": UNNAMED}, attempts=1, gives={}
            ),
            call("list", client="nowhere", fails=AWAY),
        ],
        connect={
            **TRUSTING,
            "address": f"{UNNAMED},{{encrypted}}",
            "token": "{read}",
            "attempts": 1,
        },
    ),
    Scenario(
        "a service that does not encrypt is not called by TLS",
        ENCRYPTED,
        [call("list", fails=AWAY)],
        connect={**TRUSTING, "address": "{address}", "attempts": 1},
    ),
    Scenario(
        "a key that others may read, or that is another's, and what is no PEM are refused",
        ENCRYPTED,
        [
            refuses(saying("chmod 600 "), **showing("exposed")),
            refuses(SOMETHING, **{**showing("engine"), "key": "{secrets}/nobody.key"}),
            refuses(SOMETHING, **{**TRUSTING, "ca": "{secrets}/engine.key"}),
            refuses(saying("unix socket"), **{**TRUSTING, "address": "{socket}"}),
        ],
        calls={},
    ),
)
