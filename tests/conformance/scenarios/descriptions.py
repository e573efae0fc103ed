"""Descriptions of models: of a real service, and with every field that there is."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Script, ready
from tests.conformance.expected import POSITIVE, TEXT, TIME, Json, including
from tests.conformance.kinds import CATALOGUE, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.scenarios.refusals import invalid
from tests.conformance.steps import Event, begin, call

START_S = 1_700_000_000
"""When all began in the scripted description, in seconds since 1970."""

NEW_ORIGIN = pb.RunOrigin.ValueType(17)

CANDIDATE = pb.EvictionCandidate(
    model="other",
    generation=4,
    busy=True,
    freed_bytes=5_000_000_000,
    retention_seconds=1.5,
    reside_time=Timestamp(seconds=START_S + 9),
)
CANDIDATE_TOLD: Json = {
    "model": "other",
    "generation": 4,
    "busy": True,
    "freed_bytes": 5_000_000_000,
    "retention_seconds": 1.5,
    "reside_time": START_S + 9,
}


def at(seconds: int) -> Timestamp:
    """Return a time so many seconds after the start."""
    return Timestamp(seconds=START_S + seconds)


def run() -> pb.Run:
    return pb.Run(
        generation=3,
        origin=pb.RUN_ORIGIN_STANDBY,
        create_time=at(1),
        admit_time=at(2),
        start_time=at(3),
        ready_time=at(4),
        stop_time=at(5),
        end_time=at(6),
        exit=pb.Exit(generation=3, cause=pb.EXIT_CAUSE_IDLE, message="unused", time=at(6)),
        peak_bytes=7,
        load=Duration(nanos=750_000_000),
    )


RUN_TOLD: Json = {
    "generation": 3,
    "origin": "STANDBY",
    "create_time": START_S + 1,
    "admit_time": START_S + 2,
    "start_time": START_S + 3,
    "ready_time": START_S + 4,
    "stop_time": START_S + 5,
    "end_time": START_S + 6,
    "exit": {"generation": 3, "cause": "IDLE", "message": "unused", "time": START_S + 6},
    "peak_bytes": 7,
    "load": 0.75,
}


def decision() -> pb.Decision:
    return pb.Decision(
        time=at(7),
        generation=3,
        role=pb.SERVER_ROLE_CURRENT,
        before=pb.SERVER_STATE_UNSPECIFIED,
        after=pb.SERVER_STATE_QUEUED,
        why="it does not fit",
        event="Ensure",
        choice=pb.Choice(
            needed_bytes=1,
            budget_bytes=0,
            reserved_bytes=2,
            chosen=[CANDIDATE],
            passed_over=[pb.EvictionCandidate(model="third")],
        ),
    )


DECISION_TOLD: Json = {
    "time": START_S + 7,
    "generation": 3,
    "role": "CURRENT",
    "before": "UNSPECIFIED",
    "after": "QUEUED",
    "why": "it does not fit",
    "event": "Ensure",
    "choice": {
        "needed_bytes": 1,
        "budget_bytes": 0,
        "reserved_bytes": 2,
        "available_bytes": None,
        "chosen": [CANDIDATE_TOLD],
        "passed_over": [
            {
                "model": "third",
                "generation": 0,
                "busy": False,
                "freed_bytes": 0,
                "retention_seconds": 0,
                "reside_time": None,
            }
        ],
    },
}


def of_every_field(script: Script) -> None:
    description = pb.DescribeResponse(
        model="m",
        aliases=["a", "b"],
        listed=True,
        settings=[pb.Setting(key="keep_alive", value="1h", source="default", running="2h")],
        servers=[ready("m", generation=4)],
        expected_bytes=8_000_000_000,
        expected_by=pb.EXPECTATION_WEIGHTS,
        on_disk=False,
        disk_bytes=9,
        usual_load=Duration(seconds=1, nanos=500_000_000),
        problem="no code is trusted",
        runs=[run(), pb.Run(generation=4, origin=NEW_ORIGIN)],
        last_exit=pb.Exit(generation=3, cause=pb.EXIT_CAUSE_EVICTED, signal=15),
        holders=[pb.Holder(label="indexer", since=at(8))],
        holds=501,
        waiting=[pb.WaitingCall(since=at(9), hold=True, holder="chat", own=True)],
        waiting_calls=502,
        queue_time=at(10),
        next_to_go=[CANDIDATE],
        eviction_position=33,
        eviction_candidates=34,
        kept_because="it is held",
        crash_times=[at(11), at(12)],
        crash_limit=5,
        crash_window=Duration(seconds=300),
        retry_time=at(13),
        failure_reason="CRASH_LOOP",
        failure_message="it died twice",
        decisions=[decision(), pb.Decision(generation=4)],
    )
    script.answer("Describe", description)
    script.answer("Describe", pb.DescribeResponse(model="m"))


EVERY_FIELD: Json = {
    "model": "m",
    "aliases": ["a", "b"],
    "listed": True,
    "settings": [{"key": "keep_alive", "value": "1h", "source": "default", "running": "2h"}],
    "servers": [{"model": "m", "generation": 4, "state": "READY"}],
    "expected_bytes": 8_000_000_000,
    "expected_by": "WEIGHTS",
    "on_disk": False,
    "disk_bytes": 9,
    "usual_load": 1.5,
    "problem": "no code is trusted",
    "runs": [RUN_TOLD, {"generation": 4, "origin": NEW_ORIGIN, "create_time": None, "exit": None}],
    "last_exit": {"generation": 3, "cause": "EVICTED", "signal": 15, "code": None},
    "holders": [{"label": "indexer", "since": START_S + 8}],
    "holds": 501,
    "waiting": [{"since": START_S + 9, "hold": True, "holder": "chat", "own": True}],
    "waiting_calls": 502,
    "queue_time": START_S + 10,
    "next_to_go": [CANDIDATE_TOLD],
    "eviction_position": 33,
    "eviction_candidates": 34,
    "kept_because": "it is held",
    "crash_times": [START_S + 11, START_S + 12],
    "crash_limit": 5,
    "crash_window": 300,
    "retry_time": START_S + 13,
    "failure_reason": "CRASH_LOOP",
    "failure_message": "it died twice",
    "decisions": [DECISION_TOLD, {"generation": 4, "time": None, "choice": None}],
}

SCENARIOS = (
    Scenario(
        "describe returns a model's settings, its servers and starts, and the last decisions",
        PLAIN,
        [
            call("ensure", model="{m}"),
            call(
                "describe",
                model="{m}",
                gives={
                    "model": "{m}",
                    "listed": False,
                    "settings": including({"key": "keep_alive", "source": "default"}),
                    "servers": [{"model": "{m}", "state": "READY", "role": "CURRENT"}],
                    "expected_bytes": POSITIVE,
                    "runs": [
                        {
                            "generation": 1,
                            "origin": "COLD",
                            "create_time": TIME,
                            "start_time": TIME,
                            "ready_time": TIME,
                            "stop_time": None,
                            "exit": None,
                        }
                    ],
                    "last_exit": None,
                    "holders": [],
                    "waiting": [],
                    "queue_time": None,
                    "crash_limit": POSITIVE,
                    "crash_window": POSITIVE,
                    "retry_time": None,
                    "decisions": including(
                        {"generation": 1, "before": "STARTING", "after": "READY", "event": TEXT}
                    ),
                },
            ),
        ],
        calls={"Ensure": 1, "Describe": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "describe returns how the last process ended of a model without a server",
        PLAIN,
        [
            call("ensure", model="{m}"),
            call("evict", model="{m}"),
            call(
                "describe",
                model="{m}",
                gives={
                    "servers": [],
                    "last_exit": {"generation": 1, "cause": "EVICTED", "signal": 15},
                    "runs": [{"end_time": TIME, "exit": {"cause": "EVICTED", "last_lines": []}}],
                },
            ),
        ],
        calls={"Ensure": 1, "Evict": 1, "Describe": 1},
        leaves={},
    ),
    Scenario(
        "describe returns who holds a model, and since when",
        PLAIN,
        [
            begin("hold", "held", model="{m}", holder="indexer"),
            Event("held", {"server": {"state": "READY"}}),
            call(
                "describe",
                model="{m}",
                gives={
                    "holders": [{"label": "indexer", "since": TIME}],
                    "holds": 1,
                    "eviction_position": 0,
                    "kept_because": TEXT,
                },
            ),
        ],
        calls={"Hold": 1, "Describe": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "describe of an alias describes the model that it names",
        CATALOGUE,
        [
            call(
                "describe",
                model="{who}/told",
                gives={
                    "model": "{who}/described",
                    "aliases": ["{who}/pictured", "{who}/told"],
                    "listed": True,
                    "expected_bytes": 7_000_000,
                    "expected_by": "DECLARED",
                },
            )
        ],
        calls={"Describe": 1},
    ),
    Scenario(
        "describe returns every field, and what the service does not say as absent",
        of_every_field,
        [
            call("describe", model="m", gives=EVERY_FIELD),
            call(
                "describe",
                model="m",
                gives={
                    "aliases": [],
                    "settings": [],
                    "servers": [],
                    "on_disk": None,
                    "usual_load": None,
                    "last_exit": None,
                    "queue_time": None,
                    "crash_times": [],
                    "crash_window": 0,
                    "retry_time": None,
                    "decisions": [],
                },
            ),
        ],
        calls={"Describe": 2},
    ),
    Scenario(
        "describe of what is no name of a model is INVALID_MODEL",
        PLAIN,
        [call("describe", model="-x", fails=invalid("model"))],
        calls={"Describe": 1},
    ),
)
