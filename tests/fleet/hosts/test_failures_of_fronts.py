"""Claims about a front that ends, members that are upgraded, and members that are not trusted."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import PoolError, Server, ServerInUse
from tests.certificates import dns, ip
from tests.faults.table import Recovery
from tests.fleet.hosts.fleets import (
    HOSTS,
    LIMIT_S,
    LOST_AFTER_S,
    MODELS,
    Fleet,
    Setup,
    identity,
    until,
)
from tests.fleet.hosts.members import FRONT, Members
from tests.fleet.hosts.network import Host

Start = Callable[[Setup], Fleet]

KEEP_ALIVE_S = 3.0

PAUSE_S = 0.02
"""The pause of a caller between two calls."""


def identities(servers: dict[str, Server]) -> dict[str, tuple[str, int, int, str]]:
    """Return what tells each server from all others."""
    return {model: identity(server) for model, server in servers.items()}


# --- the front ends ----------------------------------------------------------------------


@pytest.mark.fault("front killed")
def test_a_front_that_is_killed_and_started_again_has_the_same_servers_and_clients_go_on(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup(member_keys='hold_grace = "1s"'))
    before = fleet.ensure_all()
    held = MODELS[0]
    log = fleet.members[before[held].host].log
    with fleet.client.hold(held) as hold, ThreadPoolExecutor(len(MODELS)) as pool:
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
        with recovered.measured():
            fleet.front.process.kill()
            waiting = {model: pool.submit(fleet.ensure, model) for model in MODELS}
            fleet.restart_front()
        after = {model: one.result(LIMIT_S) for model, one in waiting.items()}
        assert identities(after) == identities(before)
        # The hold by the killed front ends, and that which the client has opened again goes on.
        until(lambda: "the hold has ended: its front has been away" in log.read_text())
        until(lambda: fleet.holds_of(held) == 1)
        with pytest.raises(ServerInUse):
            fleet.client.evict(held, timeout=LIMIT_S)
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
    until(lambda: fleet.holds_of(held) == 0)
    assert {one.model: identity(one) for one in fleet.client.list()} == identities(before)


@pytest.mark.fault("front asleep")
def test_a_front_that_has_slept_goes_on_with_the_same_servers_and_holds(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    before = fleet.ensure_all()
    held = MODELS[0]
    with fleet.client.hold(held) as hold, ThreadPoolExecutor(1) as pool:
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
        fleet.front.host.sleep()
        until(lambda: silence_s(fleet, "a") > 2 * LOST_AFTER_S)
        waiting = pool.submit(fleet.ensure, held)
        fleet.front.host.wake()
        with recovered.measured():
            assert identity(waiting.result(LIMIT_S)) == identity(before[held])
            assert identities(fleet.ensure_all()) == identities(before)
        until(lambda: fleet.holds_of(held) == 1)
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
    assert {one.model: identity(one) for one in fleet.client.list()} == identities(before)


@pytest.mark.fault("front killed")
def test_copies_that_were_made_while_there_was_no_front_are_evicted_by_the_next_one(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    server = fleet.ensure(MODELS[0])
    fleet.front.process.kill()
    for model in MODELS[:2]:
        for host in HOSTS:
            told = fleet.members[host].local_command("ensure", model)
            assert told.returncode == 0, told.stderr
    fleet.restart_front()
    with recovered.measured():
        until(lambda: all(len(fleet.hosts_of(model)) == 1 for model in MODELS[:2]))
    # Whichever stays: all callers are sent to it.
    (stays,) = fleet.hosts_of(MODELS[0])
    assert fleet.ensure(MODELS[0]).host == stays
    assert fleet.ensure(MODELS[0]).generation == server.generation == 1


def silence_s(fleet: Fleet, host: str) -> float:
    """Return for how long a member has not heard the front."""
    heard_at = beat(fleet, host, host).front_heard.ToTimedelta()
    return heard_at.total_seconds()


# --- members that are upgraded -----------------------------------------------------------


@dataclass(slots=True)
class Calls:
    """What has become of the calls of some callers."""

    made: int = 0
    slowest_s: float = 0.0
    failures: list[PoolError] = field(default_factory=list)
    moved: list[Server] = field(default_factory=list)


@contextmanager
def under_load(fleet: Fleet, servers: dict[str, Server]) -> Iterator[Calls]:
    """Callers that ask the front for each model again and again, and try no failed call again.

    The block ends once each has made another call after it.
    """
    calls, ended, lock = Calls(), threading.Event(), threading.Lock()

    def ask(model: str) -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(PAUSE_S)
            began = time.monotonic()
            try:
                server = client.ensure(model, timeout=LIMIT_S).server
            except PoolError as error:
                calls.failures.append(error)
                continue
            with lock:
                calls.made += 1
                calls.slowest_s = max(calls.slowest_s, time.monotonic() - began)
            if identity(server) != identity(servers[model]):
                calls.moved.append(server)

    with fleet.once() as client, ThreadPoolExecutor(len(servers)) as pool:
        callers = [pool.submit(ask, model) for model in servers]
        try:
            yield calls
        finally:
            ended.set()
        for caller in callers:
            caller.result(LIMIT_S)


@pytest.mark.fault("member upgraded under load")
def test_no_call_fails_and_nothing_moves_while_members_are_replaced_by_their_next_services(
    start: Start, recovered: Recovery
) -> None:
    # However busy the machine is, a replacement is no loss.
    fleet = start(Setup(front_keys=f'lost_after = "{LIMIT_S}s"'))
    before = fleet.ensure_all()
    with fleet.client.hold(MODELS[0]) as hold, under_load(fleet, before) as calls:
        for host in HOSTS:
            old = fleet.members[host]
            with recovered.measured():
                fleet.start_member(host, "--replace")
                assert old.process.wait(LIMIT_S) == 0
        assert identity(hold.ready(LIMIT_S)) == identity(before[MODELS[0]])
    recovered.figure(f"{calls.made} calls, the slowest {calls.slowest_s:.2f} s")
    assert not calls.failures
    assert not calls.moved
    assert calls.made > len(MODELS)
    until(lambda: all(fleet.sees(host) for host in HOSTS))
    assert {one.model: identity(one) for one in fleet.client.list()} == identities(before)


# --- clocks ------------------------------------------------------------------------------


@pytest.mark.fault("clocks apart")
def test_hosts_whose_clocks_are_days_apart_place_and_hold_and_evict_as_others(
    start: Start, recovered: Recovery
) -> None:
    shifts = {"a": -2 * 86400, "b": 3 * 86400, "c": 300, "front": -3600}
    fleet = start(Setup(shifts=shifts))
    before = fleet.ensure_all()
    by_host = {one.host: model for model, one in before.items()}
    assert sorted(by_host) == sorted(HOSTS)
    kept = {model: one for model, one in before.items() if model not in by_host.values()}
    # One of each host is unused soon.
    for model in by_host.values():
        began = time.monotonic()
        fleet.client.ensure(model, keep_alive=KEEP_ALIVE_S, timeout=LIMIT_S)
        until(partial(has_no_server, fleet, model))
        recovered.note(time.monotonic() - began)
        assert time.monotonic() - began >= KEEP_ALIVE_S
    held, *_ = kept
    with fleet.client.hold(held, keep_alive=0) as hold:
        for host in HOSTS:
            # A copy that is younger, or older by its clock, goes; what was handed out stays.
            if host != before[held].host:
                told = fleet.members[host].local_command("ensure", held)
                assert told.returncode == 0, told.stderr
        until(lambda: fleet.hosts_of(held) == [before[held].host])
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
    until(lambda: not fleet.hosts_of(held))
    del kept[held]
    assert {one.model: identity(one) for one in fleet.client.list()} == identities(kept)


def has_no_server(fleet: Fleet, model: str) -> bool:
    """Return whether the front lists no server of a model."""
    return not fleet.hosts_of(model)


# --- members that are not trusted --------------------------------------------------------


@pytest.mark.fault("member with another's certificate")
def test_a_member_with_the_certificate_of_another_host_is_not_spoken_to_and_listed_with_why(
    start: Start, recovered: Recovery
) -> None:
    def prepare(made: Members, host: Host) -> None:
        if host.name == "b":
            made.issue(host, dns("stranger"))

    fleet = start(Setup(prepare=prepare))
    assert {one.host for one in fleet.ensure_all().values()} == {"a", "c"}
    notice = fleet.notice_of("b")
    assert "its servers are not listed" in notice
    address = fleet.network.hosts["b"].address
    assert f"its certificate is not of the name '{address}'" in notice
    assert heard(fleet, "b", "stranger") == ("", 0)
    assert heard(fleet, "a", "a")[1] > 0
    # With a certificate of its own it is seen.
    fleet.made.issue(fleet.network.hosts["b"], ip(address))
    fleet.start_member("b", "--replace")
    with recovered.measured():
        until(lambda: fleet.sees("b"))


def heard(fleet: Fleet, host: str, name: str) -> tuple[str, int]:
    """Return the front and the epoch that a member has heard, whose certificate has that name."""
    told = beat(fleet, host, name)
    return told.front, told.epoch


def beat(fleet: Fleet, host: str, name: str) -> pb.BeatResponse:
    """Return what a member answers to a beat of the tests, whose certificate has that name."""
    member = fleet.members[host]
    named = (("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1))
    shown = member.credentials[FRONT].of_channel
    with grpc.secure_channel(member.address, shown, named) as channel:
        asked = pb.BeatRequest(front="of the test")
        told: pb.BeatResponse = pb_grpc.FleetMemberServiceStub(channel).Beat(asked, timeout=LIMIT_S)
    return told
