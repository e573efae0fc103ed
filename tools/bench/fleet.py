"""A front of a fleet: what a call through it costs, warm and cold, and what it needs itself."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from pool_service_client import PoolClient
from tests.fleet.hosts.conftest import reason_to_skip
from tests.fleet.hosts.members import FRONT, Members, MemberSettings
from tests.fleet.hosts.network import Host, Network
from tools.bench import fleet_warm
from tools.bench.fleet_rig import (
    Front,
    Popen,
    credentials_of,
    ended,
    front,
    front_keys,
    issue_to,
    members_here,
    popen_here,
    popen_on,
)
from tools.bench.report import Figure, compare, not_measured
from tools.bench.scripted_members import name_of
from tools.bench.turns import in_turn, pairs

NAMES = ("a", "b", "c")
LOAD = "load=0.2"
AIM_COLD = 1.02

MEMBERS, SERVERS = 16, 500
AIM_UP_S = 1.0
AIM_MIB = 60e6 / 2**20
AIM_IDLE_PERCENT = 1.0
SETTLING_S = 3.0
IDLE_S = 10.0
FIRST_PORT = 7100

SAN = "spiffe://bench/engine"


def measure(directory: Path, rounds: int) -> list[Figure]:
    """Measure calls through a front on this machine, then on hosts with TLS; its size."""
    here, by_tls, sized = (directory / name for name in ("here", "tls", "sized"))
    for one in (here, by_tls, sized):
        one.mkdir()
    figures = _here(here, rounds)
    if why := reason_to_skip():
        return [*figures, not_measured("fleet", "a front on hosts of its own", why)]
    with Network(by_tls) as network:
        figures += _warm_by_tls(by_tls, network, rounds)
    with Network(sized) as network:
        figures += _size(sized, network, rounds)
    return figures


# --- calls ------------------------------------------------------------------------------------


def _here(directory: Path, rounds: int) -> list[Figure]:
    """Measure warm and cold calls on loopback, without TLS."""
    with (
        members_here(directory, NAMES) as members,
        front(directory / "front", members) as running,
    ):
        answer = directory / "answer"
        answer.write_bytes(asyncio.run(fleet_warm.answer_of(members["a"], None)))
        first = fleet_warm.echo_command(answer=answer, address="127.0.0.1:0")
        with (
            echo(first) as at,
            echo(fleet_warm.echo_command(forward=at, address="127.0.0.1:0")) as both,
        ):
            ways = fleet_warm.Ways("loopback", members["a"], running.addresses[0], at, both)
            figures = fleet_warm.measure(ways, rounds)
        return [*figures, *_cold(members["a"], running, rounds)]


def _warm_by_tls(directory: Path, network: Network, rounds: int) -> list[Figure]:
    """Measure warm calls where caller, front and member are on hosts of their own, with TLS."""
    made, host, at = Members(directory), network.add("a"), network.add("front")
    known = f'[clients.engine]\nsan = "{SAN}"\nscope = "use"\n'
    settings = MemberSettings(
        models={fleet_warm.MODEL: "100 MiB"},
        client="fleet = true",
        more=f'[fleet]\nname = "a"\nadvertise = "{host.address}"\n{known}',
    )
    member = made.start(host, settings)
    engine = credentials_of(made.authority, directory, "engine", SAN).of_channel
    tls = {one.name: issue_to(made.authority, one) for one in (host, at)}
    keys = (
        f'[tls]\ncert = "{tls["front"]}/service.pem"\nkey = "{tls["front"]}/service.key"\n'
        f'client_ca = "{tls["front"]}/ca.pem"\n{known}{front_keys(made.credentials[FRONT])}'
    )
    answer = directory / "tls-answer"
    answer.write_bytes(asyncio.run(fleet_warm.answer_of(member.address, engine)))
    with ExitStack() as stack:
        running = stack.enter_context(
            front(
                at.directory,
                {"a": member.address},
                keys,
                [f"{at.address}:7200"],
                popen_on(at),
            )
        )
        command = fleet_warm.echo_command(
            answer=answer, address=f"{host.address}:7300", tls=tls["a"]
        )
        alone = stack.enter_context(echo(command, popen_on(host)))
        command = fleet_warm.echo_command(
            forward=alone, address=f"{at.address}:7300", tls=tls["front"]
        )
        both = stack.enter_context(echo(command, popen_on(at)))
        ways = fleet_warm.Ways(
            "TLS on each hop", member.address, running.addresses[0], alone, both, engine
        )
        return fleet_warm.measure(ways, rounds)


def _cold(member: str, running: Front, rounds: int) -> list[Figure]:
    """Compare starts of a server that loads for 0.2 s."""
    with PoolClient.connect(member) as direct, PoolClient.connect(running.addresses[0]) as through:
        ways = [
            partial(_start, through, "bench/cold"),
            partial(_start, direct, "bench/direct"),
            partial(_start, direct, "bench/again"),
        ]
        found = in_turn(rounds * 2, *ways)
    name = "cold Ensure through a front of three members, 0.2 s of load"
    return [
        compare("fleet", name, "the member itself", pairs(found), aim=AIM_COLD),
        compare("fleet", "A/A: the member itself, cold", "the same once more", pairs(found, 2, 1)),
    ]


def _start(client: PoolClient, model: str) -> float:
    """Return the milliseconds of a start; evict the server after it."""
    began = time.perf_counter()
    client.ensure(model, runtime_model=f"{model}?{LOAD}", timeout=60)
    took = (time.perf_counter() - began) * 1e3
    client.evict(model, force=True)
    return took


# --- the front itself ---------------------------------------------------------------------------


def _size(directory: Path, network: Network, rounds: int) -> list[Figure]:
    """Measure the start, memory and idle share of a front of many members with many servers.

    The members are scripted servers in one process: a stream and beats of each, with TLS.
    """
    made, host, at = Members(directory), network.add("members"), network.add("front")
    tls = issue_to(made.authority, host)
    keys = front_keys(made.credentials[FRONT])
    with (
        _scripted(host, FIRST_PORT, MEMBERS, SERVERS, tls) as many,
        _scripted(host, FIRST_PORT + MEMBERS, 1, 0, tls) as least,
    ):
        starts = in_turn(
            rounds,
            *(partial(_up_s, at, of, keys) for of in (many, least)),
        )
        needs = [_at_rest(at, of, keys) for of in (many, least)]
        footprint, resident, idle = zip(*needs, strict=True)
    fleet = f"{MEMBERS} members of {SERVERS} servers"
    against = "a front of one member without servers"
    return [
        compare(
            "fleet",
            f"a front of {fleet}: from its start until it serves",
            against,
            pairs(starts),
            unit="s",
            aim_itself=AIM_UP_S,
        ),
        compare(
            "fleet",
            f"memory of a front of {fleet}, as a service counts its servers",
            against,
            [footprint],
            unit="MiB",
            aim_itself=AIM_MIB,
        ),
        compare(
            "fleet",
            f"the same with pages of files (resident), {fleet}",
            against,
            [resident],
            unit="MiB",
            aim_itself=AIM_MIB,
        ),
        compare(
            "fleet",
            f"processor share of a front of {fleet} while idle",
            against,
            [idle],
            unit="%",
            aim_itself=AIM_IDLE_PERCENT,
        ),
    ]


@contextmanager
def _scripted(
    host: Host, port: int, members: int, servers: int, tls: Path
) -> Iterator[dict[str, str]]:
    """Run scripted members on a host; give their addresses by name."""
    numbers = [str(one) for one in (port, members, servers)]
    command = [sys.executable, "-m", "tools.bench.scripted_members", host.address, *numbers]
    process = host.popen([*command, "--tls", str(tls)], stdout=subprocess.PIPE, stderr=None)
    with ended(process):
        assert process.stdout is not None
        if process.stdout.readline() != "listening\n":
            raise RuntimeError("the scripted members did not start")
        yield {name_of(one): f"{host.address}:{port + one}" for one in range(members)}


def _sized(at: Host, members: dict[str, str], keys: str) -> AbstractContextManager[Front]:
    listen = [f"unix:{at.directory}/front.sock"]
    (at.directory / "front.sock").unlink(missing_ok=True)
    return front(at.directory, members, keys, listen, popen_on(at))


def _up_s(at: Host, members: dict[str, str], keys: str) -> float:
    with _sized(at, members, keys) as running:
        return running.up_s


def _at_rest(at: Host, members: dict[str, str], keys: str) -> tuple[float, float, float]:
    """Return the MiB of a front, without and with files, and its share of a processor in %."""
    with _sized(at, members, keys) as running:
        time.sleep(SETTLING_S)
        before, began = running.cpu_ms, time.monotonic()
        time.sleep(IDLE_S)
        share = (running.cpu_ms - before) / 10 / (time.monotonic() - began)
        return running.footprint_mib, running.resident_mib, share


# --- programs -------------------------------------------------------------------------------------


@contextmanager
def echo(command: Sequence[str], popen: Popen = popen_here) -> Iterator[str]:
    """Run an echo; give its address."""
    process = popen(command, stdout=subprocess.PIPE, stderr=None)
    with ended(process):
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
