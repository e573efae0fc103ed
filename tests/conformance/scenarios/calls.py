"""Every call, and what it gives."""

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.scripted import Script, ready
from tests.conformance.expected import (
    POSITIVE,
    TEXT,
    TIME,
    URL,
    Is,
    Json,
    Other,
    Plus,
    Said,
    at_least,
    including,
)
from tests.conformance.kinds import ALONE, CATALOGUE, FRAIL, HUB_BYTES, PLAIN
from tests.conformance.scenario import Scenario
from tests.conformance.steps import (
    Await,
    Configure,
    Crowd,
    End,
    Event,
    FirstEvent,
    NoGap,
    Open,
    begin,
    call,
)

READY = {"state": "READY", "endpoint": URL}


def pinned(is_pinned: bool, changed: bool, configured: bool = False) -> Json:
    """Return what a pin gives."""
    return {"pinned": is_pinned, "changed": changed, "configured": configured}


def of_every_role(script: Script) -> None:
    servers = [
        ready("", generation=4711, role=pb.SERVER_ROLE_ORPHAN),
        ready(generation=1, role=pb.SERVER_ROLE_SUPERSEDED),
        ready(generation=2, role=pb.SERVER_ROLE_CURRENT),
        ready(generation=3, role=pb.SERVER_ROLE_SUCCESSOR),
        ready("of an older service", role=pb.SERVER_ROLE_UNSPECIFIED),
    ]
    script.answer("List", pb.ListResponse(servers=servers))


def in_two_pages(script: Script) -> None:
    script.answer("List", pb.ListResponse(servers=[ready("a")], next_page_token="b"))
    script.answer("List", pb.ListResponse(servers=[ready("b")]))


SCENARIOS = (
    Scenario(
        "ensure starts a model and returns its server",
        PLAIN,
        [
            call(
                "ensure",
                model="{m}",
                gives={
                    "started": True,
                    "server": {
                        **READY,
                        "model": "{m}",
                        "runtime_model": "{m}",
                        "generation": 1,
                        "role": "CURRENT",
                        "served_model_name": "{m}",
                        "base_url": Is("URL with /v1", lambda told: told.endswith("/v1")),
                        "embedding_model_name": "",
                        "pid": POSITIVE,
                        "create_time": TIME,
                        "start_time": TIME,
                        "ready_time": TIME,
                        "last_use_time": TIME,
                        "expire_time": TIME,
                        "expected_ready_time": None,
                        "last_exit": None,
                        "log_path": TEXT,
                        "queue_position": 0,
                        "progress": None,
                        "expected_bytes": POSITIVE,
                        "expected_by": "GUESS",
                        "holds": 0,
                        "pinned": False,
                        "outdated": False,
                        "prompt_cache": None,
                    },
                },
            )
        ],
        calls={"Ensure": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "a server says which member of a fleet it is of",
        FRAIL,
        [
            call("ensure", model="{m}", gives={"server": {"host": "{host}"}}),
            begin("watch", "watch"),
            Event("watch", {"server": {"model": "{m}", "host": "{host}"}}),
        ],
        calls={"Ensure": 1, "Watch": 1},
    ),
    Scenario(
        "ensure of a READY model returns the same server at once",
        PLAIN,
        [
            call("ensure", model="{m}", name="first"),
            call(
                "ensure",
                model="{m}",
                gives={
                    "started": False,
                    "server": {
                        "pid": Said("first.server.pid"),
                        "endpoint": Said("first.server.endpoint"),
                    },
                },
            ),
        ],
        calls={"Ensure": 2},
    ),
    Scenario(
        "ensure sends the runtime model and the keep alive",
        PLAIN,
        [
            call(
                "ensure",
                model="{m}",
                runtime_model="{m}?tokens=2",
                keep_alive=-1,
                gives={"server": {"runtime_model": "{m}?tokens=2", "expire_time": None}},
            ),
            call("ensure", model="{n}", keep_alive=0.5, gives={"server": {"expire_time": TIME}}),
        ],
    ),
    Scenario(
        "100 concurrent callers share one start",
        PLAIN,
        [
            Crowd(
                100,
                "ensure",
                {"model": "{m}", "runtime_model": "x?load=0.2"},
                gives={"server": {**READY, "generation": 1}},
                one={"started": True},
            )
        ],
        calls={"Ensure": 100},
    ),
    Scenario(
        "evict stops a server and reports its exit",
        PLAIN,
        [
            call("ensure", model="{m}", name="first"),
            call(
                "evict",
                model="{m}",
                gives={
                    "evicted": [
                        {
                            "killed": False,
                            "server": {
                                "model": "{m}",
                                "state": "STOPPING",
                                "endpoint": "",
                                "pid": Said("first.server.pid"),
                                "last_exit": {
                                    "generation": 1,
                                    "cause": "EVICTED",
                                    "code": None,
                                    "signal": 15,
                                    "message": TEXT,
                                    "time": TIME,
                                },
                            },
                        }
                    ]
                },
            ),
            call("ensure", model="{m}", gives={"server": {"pid": Other("first.server.pid")}}),
        ],
        calls={"Ensure": 2, "Evict": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "evict without a server evicts nothing",
        PLAIN,
        [call("evict", model="{m}", gives={"evicted": []})],
        calls={"Evict": 1},
    ),
    Scenario(
        "evict reports that a server had to be killed",
        CATALOGUE,
        [
            call("ensure", model="{who}/stubborn"),
            call(
                "evict",
                model="{who}/stubborn",
                gives={"evicted": [{"killed": True, "server": {"last_exit": {"signal": 9}}}]},
            ),
        ],
        calls={"Ensure": 1, "Evict": 1},
    ),
    Scenario(
        "evict of idle servers leaves held ones",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            Event("held", {"server": READY}),
            call("ensure", model="{n}"),
            call("evict", idle=True, gives={"evicted": [{"server": {"model": "{n}"}}]}),
        ],
        calls={"Hold": 1, "Ensure": 1, "Evict": 1},
        leaves={"{m}": "READY"},
    ),
    Scenario(
        "evict of all leaves held servers, and none by force",
        ALONE,
        [
            begin("hold", "held", model="{m}"),
            Event("held", {"server": READY}),
            call("ensure", model="{n}"),
            call("evict", all=True, gives={"evicted": [{"server": {"model": "{n}"}}]}),
            call("evict", all=True, force=True, gives={"evicted": [{"server": {"model": "{m}"}}]}),
        ],
        calls={"Hold": 1, "Ensure": 1, "Evict": 2},
        leaves={},
    ),
    Scenario(
        "list returns every server, in the order of the models, over all pages",
        ALONE,
        [
            call("ensure", model="{n}"),
            call("ensure", model="{m}"),
            call("ensure", model="{o}"),
            call(
                "list",
                page_size=1,
                gives={
                    "servers": [
                        {**READY, "model": "{m}"},
                        {**READY, "model": "{n}"},
                        {**READY, "model": "{o}"},
                    ],
                    "pages": 3,
                    "revision": POSITIVE,
                    "totals": {
                        "servers": 3,
                        "ready": 3,
                        "queued": 0,
                        "failed": 0,
                        "memory_budget_bytes": None,
                        "memory_total_bytes": POSITIVE,
                        "memory_pressured": False,
                    },
                    "notices": [],
                },
            ),
        ],
        calls={"Ensure": 3, "List": 3},
    ),
    Scenario(
        "list returns each server's role",
        of_every_role,
        [
            call(
                "list",
                gives={
                    "servers": [
                        {"model": "", "generation": 4711, "role": "ORPHAN"},
                        {"model": "m", "generation": 1, "role": "SUPERSEDED"},
                        {"model": "m", "generation": 2, "role": "CURRENT"},
                        {"model": "m", "generation": 3, "role": "SUCCESSOR"},
                        {"model": "of an older service", "role": "UNSPECIFIED"},
                    ]
                },
            )
        ],
        calls={"List": 1},
    ),
    Scenario(
        "get returns a model's server or none, and asks it whether it answers",
        PLAIN,
        [
            call("get", model="{m}", gives={"server": None, "answers": False}),
            call("ensure", model="{m}", name="first"),
            call(
                "get",
                model="{m}",
                gives={"server": {"pid": Said("first.server.pid")}, "answers": False},
            ),
            call(
                "get",
                model="{m}",
                check=True,
                gives={"server": {"pid": Said("first.server.pid")}, "answers": True},
            ),
        ],
        calls={"Ensure": 1, "Get": 3},
    ),
    Scenario(
        "list returns the servers of all pages at once",
        in_two_pages,
        [call("servers", gives={"servers": [{"model": "a"}, {"model": "b"}]})],
        calls={"List": 2},
    ),
    Scenario(
        "ensure tells its progress while it waits",
        PLAIN,
        [
            begin(
                "ensure", "waits", model="{m}", runtime_model="x?load_until={gate}", progress=True
            ),
            Event("waits", {"server": {"model": "{m}", "state": "STARTING"}}),
            Open(),
            End("waits", gives={"started": True}),
        ],
        calls={"Ensure": 1, "Get": at_least(1)},
    ),
    Scenario(
        "watch sends the present state, that it is complete, and every change",
        ALONE,
        [
            call("ensure", model="{m}"),
            begin("watch", "watch"),
            Event("watch", {"kind": "changed", "server": {**READY, "model": "{m}"}}),
            Event("watch", {"kind": "synced", "server": None}),
            call("ensure", model="{n}"),
            Event("watch", {"kind": "changed", "server": {**READY, "model": "{n}"}}),
            call("evict", model="{n}"),
            Event("watch", {"kind": "removed", "server": {"model": "{n}"}}),
            NoGap("watch"),
        ],
        calls={"Watch": 1, "Ensure": 2, "Evict": 1},
    ),
    Scenario(
        "watch after a revision sends each change after it, and no present state",
        ALONE,
        [
            call("list", name="before"),
            call("ensure", model="{m}"),
            begin("watch", "watch", after_revision=Said("before.revision")),
            FirstEvent(
                "watch",
                {
                    "kind": "changed",
                    "revision": Plus("before.revision", 1),
                    "server": {"model": "{m}"},
                },
            ),
            Event("watch", {"kind": "changed", "server": READY}),
        ],
        calls={"Watch": 1, "Ensure": 1, "List": 1},
    ),
    Scenario(
        "models returns the catalogue",
        CATALOGUE,
        [
            call(
                "models",
                gives={
                    "models": including(
                        {
                            "model": "{who}/described",
                            "aliases": ["{who}/pictured", "{who}/told"],
                            "runtime_model": "x?tokens=1",
                            "runtime": "",
                            "groups": ["{who}"],
                            "pinned": True,
                            "preload": False,
                            "expected_bytes": 7_000_000,
                            "expected_by": "DECLARED",
                            "on_disk": None,
                            "problem": "",
                            "disk_bytes": 0,
                            "state": None,
                            "listed": True,
                        },
                        {
                            "model": "{who}/absent",
                            "aliases": [],
                            "runtime": "hub",
                            "pinned": False,
                            "on_disk": False,
                        },
                        {"model": "{who}/code", "problem": TEXT},
                    )
                },
            )
        ],
        calls={"ListModels": 1},
    ),
    Scenario(
        "models returns found models too, with their servers' states",
        PLAIN,
        [
            call("ensure", model="{m}"),
            call(
                "models",
                found=True,
                gives={
                    "models": including(
                        {"model": "{m}", "listed": False, "state": "READY"},
                    )
                },
            ),
        ],
        calls={"Ensure": 1, "ListModels": 1},
    ),
    Scenario(
        "an alias is the model that it names",
        CATALOGUE,
        [
            call("ensure", model="{who}/uno", gives={"server": {"model": "{who}/one"}}),
            call("evict", model="{who}/eins", gives={"evicted": [{"server": {"pinned": True}}]}),
        ],
    ),
    Scenario(
        "pull downloads a model and reports its progress",
        CATALOGUE,
        [
            begin("pull", "pull", model="{who}/pulled"),
            Event("pull", {"done": HUB_BYTES, "total": HUB_BYTES}),
            End("pull", gives={}),
        ],
        calls={"Pull": 1},
    ),
    Scenario(
        "ensure downloads if it is allowed to",
        CATALOGUE,
        [
            call("ensure", model="{who}/hub", download=True, gives={"server": READY}),
            call("evict", model="{who}/hub"),
        ],
        calls={"Ensure": 1, "Evict": 1},
    ),
    Scenario(
        "a runtime model that was named is meant until it is forgotten",
        PLAIN,
        [
            call("ensure", model="{m}", runtime_model="x?tokens=2"),
            call("evict", model="{m}"),
            call("ensure", model="{m}", gives={"server": {"runtime_model": "x?tokens=2"}}),
            call("evict", model="{m}"),
            call("forget", model="{m}", gives={"runtime_model": "x?tokens=2"}),
            call("forget", model="{m}", gives={"runtime_model": ""}),
            call("ensure", model="{m}", gives={"server": {"runtime_model": "{m}"}}),
        ],
        calls={"Ensure": 3, "Evict": 2, "Forget": 2},
    ),
    Scenario(
        "a pin counts until it is taken back, and its server shows it",
        ALONE,
        [
            call("pin", model="{m}", pinned=True, gives=pinned(True, True)),
            call("pin", model="{m}", pinned=True, gives=pinned(True, False)),
            call("ensure", model="{m}", gives={"server": {"pinned": True}}),
            call("evict", idle=True, gives={"evicted": []}),
            call("pin", model="{m}", pinned=False, gives=pinned(False, True)),
            call("ensure", model="{m}", gives={"server": {"pinned": False, "generation": 1}}),
        ],
        calls={"Ensure": 2, "Evict": 1, "Pin": 3},
    ),
    Scenario(
        "a pin overrides the configuration, until that is to decide again",
        CATALOGUE,
        [
            call("pin", model="{who}/uno", pinned=False, gives=pinned(False, True, True)),
            call("pin", model="{who}/one", gives=pinned(True, True, True)),
        ],
        calls={"Pin": 2},
    ),
    Scenario(
        "reload reports what a changed configuration replaces and updates",
        ALONE,
        [
            call("ensure", model="{m}"),
            call("ensure", model="{n}"),
            begin("watch", "watch"),
            Configure(
                '[models."{m}"]\nruntime_model = "x?tokens=2"\n'
                '[models."{n}"]\nkeep_alive = "1h"\n'
                '[logs]\nmax_bytes = "1MiB"\n'
            ),
            call(
                "reload",
                gives={
                    "replaced": ["{m}"],
                    "updated": ["{n}"],
                    "removed": [],
                    "restart_needed": ["logs.max_bytes"],
                    "problems": [],
                },
            ),
            Event("watch", {"kind": "removed", "server": {"model": "{m}"}}),
            call("ensure", model="{m}", gives={"server": {"runtime_model": "x?tokens=2"}}),
        ],
        calls={"Ensure": 3, "Reload": 1, "Watch": 1},
        no_front="a front reads its own configuration, and that has no settings of models",
    ),
    Scenario(
        "hold sends each state of a start, and is READY from then on",
        PLAIN,
        [
            begin("hold", "held", model="{m}", runtime_model="x?load_until={gate}"),
            Event("held", {"server": {"state": "STARTING", "endpoint": "", "ready_time": None}}),
            Open(),
            Event("held", {"server": {**READY, "holds": 1}}),
            call("ready", hold="held", gives={"server": {**READY, "model": "{m}"}}),
            call("release", hold="held", gives={}),
            End("held", gives={}),
            Await("{m}", "READY", holds=0),
        ],
        calls={"Hold": 1},
        leaves={"{m}": "READY"},
    ),
)
