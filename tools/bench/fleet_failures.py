"""How long callers of a fleet wait when a host is killed, or cut off, or the leader is killed.

Hosts are network and process namespaces of this machine, and so can be killed and cut off. Beside
each figure stands that of the prototype that the design was made with: three members, the same kind
of machine, busy at the time (2026-11-25).
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pool_service_client import PoolClient, PoolError
from tests.fleet.engines.etcd_process import etcd
from tests.fleet.hosts.conftest import reason_to_skip
from tests.fleet.hosts.members import FRONT, Member, Members, MemberSettings
from tests.fleet.hosts.network import Network
from tools.bench.fleet_rig import (
    Front,
    await_line,
    front,
    front_keys,
    members_here,
    popen_on,
)
from tools.bench.report import Figure, compare, not_measured
from tools.bench.turns import free_port

PART = "fleet-failures"
HOSTS = ("a", "b", "c")
MODELS = tuple(f"org/m{number}" for number in range(9))
COLD_LOAD_S = 0.2
LEASE_S = 3.0
LIMIT_S = 60.0
POLL_S = 0.02

PROTOTYPE = "the prototype"
AIM_NOTICED_S = 0.2
AIM_KILLED_OVER_COLD_S = 4.0
AIM_CUT_OVER_COLD_S = 7.0
AIM_HEALED_S = 2.0
AIM_LEADER_S = LEASE_S + 1.0

ANSWER = """
import json, sys, urllib.request
body = json.dumps({"model": sys.argv[2], "stream": True, "messages": [
    {"role": "user", "content": "x"}]}).encode()
asked = urllib.request.Request(sys.argv[1] + "/v1/chat/completions", body,
    {"content-type": "application/json"})
with urllib.request.urlopen(asked) as answer:
    print("begun", answer.readline() != b"", flush=True)
    print("whole", b"[DONE]" in answer.read(), flush=True)
"""
"""Reads a streamed answer to its end."""


def measure(directory: Path, rounds: int) -> list[Figure]:
    """Measure hosts that are killed, cut off and healed, and leaders that are killed."""
    by_hosts, by_leaders = directory / "hosts", directory / "leaders"
    by_hosts.mkdir()
    by_leaders.mkdir()
    figures = _leader(by_leaders, rounds)
    if why := reason_to_skip():
        return [*figures, not_measured(PART, "hosts that are killed or cut off", why)]
    with Network(by_hosts) as network:
        return [*figures, *_hosts(by_hosts, network, rounds)]


# --- hosts ----------------------------------------------------------------------------------------


@dataclass
class Fleet:
    """Three members, and a front on a host of its own."""

    made: Members
    settings: dict[str, MemberSettings]
    members: dict[str, Member]
    front: Front
    client: PoolClient
    pool: ThreadPoolExecutor
    times: dict[str, list[float]] = field(default_factory=dict)

    def ensure_all(self, models: Sequence[str] = MODELS) -> None:
        """Wait until models are READY that are asked for at once."""
        for _ in self.pool.map(lambda one: self.client.ensure(one, timeout=LIMIT_S), models):
            pass

    def host_of(self, endpoint: str) -> str:
        address = endpoint.removeprefix("http://").rpartition(":")[0]
        return next(name for name, one in self.members.items() if one.host.address == address)

    def hosts(self) -> dict[str, list[str]]:
        """Return the hosts of each model."""
        found: dict[str, list[str]] = {}
        for server in self.client.list():
            if server.endpoint:
                found.setdefault(server.model, []).append(self.host_of(server.endpoint))
        return found

    def models_at(self, host: str) -> list[str]:
        return [model for model, hosts in self.hosts().items() if hosts == [host]]

    def fullest(self) -> str:
        """Return the host that has most models."""
        return max(HOSTS, key=lambda host: len(self.models_at(host)))

    def awaiting(self, text: str) -> "Future[float]":
        """Return the time at which the front will have logged a text from now on."""
        skip = self.front.log.stat().st_size

        def seen() -> float:
            await_line(self.front.log, text, skip)
            return time.perf_counter()

        return self.pool.submit(seen)

    def note(self, what: str, seconds: float) -> None:
        self.times.setdefault(what, []).append(seconds)

    def pairs(self, what: str, baseline: str | float) -> list[tuple[float, float]]:
        """Return what was measured, each beside a baseline of the same round, or a fixed one."""
        found = self.times[what]
        beside = self.times[baseline] if isinstance(baseline, str) else [baseline] * len(found)
        return list(zip(found, beside, strict=True))


def _hosts(directory: Path, network: Network, rounds: int) -> list[Figure]:
    with _fleet(directory, network) as fleet:
        for _ in range(rounds):
            _spread(fleet)
            fleet.note("cold", _cold(fleet))
            _kill(fleet, fleet.fullest())
            _spread(fleet)
            host = fleet.fullest()
            _cut_and_heal(fleet, host, directory / f"end-{host}")
    cold = "a cold Ensure of the same round"
    return [
        compare(
            PART,
            "a host is killed: from then until the front notices",
            PROTOTYPE,
            fleet.pairs("noticed", 0.07),
            unit="s",
            aim_itself=AIM_NOTICED_S,
        ),
        compare(
            PART,
            "a host is killed: from then until its models, asked for at once, are READY elsewhere",
            cold,
            fleet.pairs("killed", "cold"),
            unit="s",
            aim_over=AIM_KILLED_OVER_COLD_S,
        ),
        compare(
            PART, "a host is killed: the same", PROTOTYPE, fleet.pairs("killed", 3.8), unit="s"
        ),
        compare(
            PART,
            "a cable is cut: from then until the host's models are READY elsewhere",
            cold,
            fleet.pairs("cut", "cold"),
            unit="s",
            aim_over=AIM_CUT_OVER_COLD_S,
        ),
        compare(PART, "a cable is cut: the same", PROTOTYPE, fleet.pairs("cut", 6.9), unit="s"),
        compare(
            PART,
            "the cable is whole again: from then until no model has an unused copy",
            PROTOTYPE,
            fleet.pairs("healed", 1.2),
            unit="s",
            aim_itself=AIM_HEALED_S,
        ),
    ]


@contextmanager
def _fleet(directory: Path, network: Network) -> Iterator[Fleet]:
    made, settings, members = Members(directory), {}, {}
    for name in HOSTS:
        host = network.add(name)
        settings[name] = MemberSettings(
            models=dict.fromkeys((*MODELS, "org/cold"), "50 MiB"),
            flags=f"load={COLD_LOAD_S}&delay=0.05&answers_until={directory}/end-{name}",
            client="fleet = true",
            more=f'[fleet]\nname = "{name}"\nadvertise = "{host.address}"\n',
        )
        members[name] = made.start(host, settings[name])
    at = network.add("front")
    addresses = {name: one.address for name, one in members.items()}
    listen = [f"unix:{at.directory}/front.sock"]
    with (
        front(
            at.directory, addresses, front_keys(made.credentials[FRONT]), listen, popen_on(at)
        ) as running,
        PoolClient.connect(running.addresses[0]) as client,
        ThreadPoolExecutor(len(MODELS) + 1) as pool,
    ):
        yield Fleet(made, settings, members, running, client, pool)


def _cold(fleet: Fleet) -> float:
    began = time.perf_counter()
    fleet.client.ensure("org/cold", timeout=LIMIT_S)
    took = time.perf_counter() - began
    fleet.client.evict("org/cold", force=True)
    return took


def _kill(fleet: Fleet, host: str) -> None:
    """Kill a host while its models are asked for; start it again."""
    models, member = fleet.models_at(host), fleet.members[host]
    noticed = fleet.awaiting(f"member={host}")
    began = time.perf_counter()
    member.host.kill()
    fleet.ensure_all(models)
    fleet.note("killed", time.perf_counter() - began)
    fleet.note("noticed", noticed.result() - began)
    back = fleet.awaiting("a member is seen")
    member.host.boot()
    fleet.members[host] = fleet.made.start(member.host, fleet.settings[host])
    back.result()


def _cut_and_heal(fleet: Fleet, host: str, end: Path) -> None:
    """Cut a host off while its models are asked for, one of which gives an answer; heal it."""
    models, at = fleet.models_at(host), fleet.members[host].host
    used, *unused = models
    (server,) = [one for one in fleet.client.list() if one.model == used]
    answer = at.popen(
        [sys.executable, "-I", "-c", ANSWER, server.endpoint, server.served_model_name],
        stdout=subprocess.PIPE,
        stderr=None,
    )
    assert answer.stdout is not None
    assert answer.stdout.readline() == "begun True\n"
    began = time.perf_counter()
    at.cut()
    fleet.ensure_all(models)
    fleet.note("cut", time.perf_counter() - began)
    began = time.perf_counter()
    at.heal()
    _await(fleet, dict.fromkeys(unused, 1) | {used: 2})
    fleet.note("healed", time.perf_counter() - began)
    end.touch()
    told = answer.stdout.readline()
    if told != "whole True\n":
        raise RuntimeError(f"the answer was cut: {told!r}")
    answer.wait()
    _await(fleet, dict.fromkeys(models, 1))
    end.unlink()


def _await(fleet: Fleet, counts: dict[str, int]) -> None:
    """Wait until models have so many servers."""
    limit = time.monotonic() + LIMIT_S
    while True:
        found = Counter({model: len(hosts) for model, hosts in fleet.hosts().items()})
        if all(found[model] == many for model, many in counts.items()):
            return
        if time.monotonic() > limit:
            raise TimeoutError(f"there are {found}, not {counts}: see {fleet.front.log}")
        time.sleep(POLL_S)


def _spread(fleet: Fleet) -> None:
    """Place all models anew, on all hosts."""
    for model in MODELS:
        fleet.client.evict(model, force=True)
    fleet.ensure_all()


# --- leaders --------------------------------------------------------------------------------------


def _leader(directory: Path, rounds: int) -> list[Figure]:
    """Kill the front that leads, and ask the other one for a new model until it is READY."""
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        members = stack.enter_context(members_here(directory, HOSTS[:2]))
        keys = f'leader = "etcd:{stack.enter_context(etcd(directory / "etcd")).endpoint}"\n'

        def start(number: int) -> Front:
            address = f"127.0.0.1:{ports[number]}"
            own = f'address = "{address}"\n{keys}'
            at = directory / f"front-{number}-{time.monotonic_ns()}"
            return stack.enter_context(front(at, members, own, [address]))

        fronts = [start(0), start(1)]
        pairs = list[tuple[float, float]]()
        for turn in range(rounds):
            leads, follows = turn % 2, 1 - turn % 2
            with PoolClient.connect(fronts[follows].addresses[0]) as client:
                _new(client, f"first/{turn}", retry=False)
                began = time.perf_counter()
                fronts[leads].kill()
                # What is READY is given out meanwhile.
                client.ensure(f"first/{turn}", timeout=LIMIT_S)
                _new(client, f"next/{turn}", retry=True)
                pairs.append((time.perf_counter() - began, 3.2))
            fronts[leads] = start(leads)
    return [
        compare(
            PART,
            "the leader is killed: from then until the next one has started a new model",
            PROTOTYPE,
            pairs,
            unit="s",
            aim_itself=AIM_LEADER_S,
        )
    ]


def _new(client: PoolClient, model: str, *, retry: bool) -> None:
    """Start a model; with retry: again and again while nobody leads."""
    limit = time.monotonic() + LIMIT_S
    while True:
        try:
            client.ensure(model, runtime_model=model, timeout=LIMIT_S)
        except PoolError:
            if not retry or time.monotonic() > limit:
                raise
            time.sleep(POLL_S)
        else:
            return
