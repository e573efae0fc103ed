"""Claims about a fleet whose hosts fall silent: killed, cut off, asleep, or most at once."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pool_service_client import PoolUnreachable, Server, ServerState
from tests.faults.table import Recovery
from tests.fleet.hosts.fleets import (
    ANOTHER,
    LIMIT_S,
    LOST_AFTER_S,
    MODELS,
    SETTINGS,
    Fleet,
    Setup,
    identity,
    until,
)
from tests.fleet.hosts.members import reaches
from tests.fleet.hosts.network import Direction, Host

Start = Callable[[Setup], Fleet]

SOON_S = 15.0
"""Sooner than any timer that the test has set."""


def servers_on(servers: dict[str, Server], host: str) -> list[str]:
    """Return the models that have their server on a host."""
    return [model for model, server in servers.items() if server.host == host]


def assert_untouched(fleet: Fleet, before: dict[str, Server], lost: str) -> None:
    """Assert that the servers of other hosts than the lost one are the processes that they were."""
    for model, server in before.items():
        if server.host != lost:
            assert identity(fleet.ensure(model)) == identity(server)
            assert reaches(fleet.front.host, server.endpoint, LIMIT_S)


def ready_elsewhere(states: Iterator[Server], lost: str) -> Server:
    """Return the first READY state of a hold on another host than the lost one."""
    return next(one for one in states if one.state is ServerState.READY and one.host != lost)


def has_no_copies(fleet: Fleet, after: dict[str, Server]) -> bool:
    """Return whether models have servers on those hosts alone where callers were given one last."""
    return all(fleet.hosts_of(model) == [server.host] for model, server in after.items())


def assert_one_server_each(fleet: Fleet, after: dict[str, Server]) -> None:
    """Assert that models have no other servers than those that callers were given last."""
    # A host that was killed tells, as any service, that its servers have failed.
    listed = [one for one in fleet.client.list() if one.state is not ServerState.FAILED]
    assert {identity(one) for one in listed if one.model in after} == set(
        map(identity, after.values())
    )


# --- killed ------------------------------------------------------------------------------


@pytest.mark.fault("host killed")
def test_models_of_a_killed_host_that_are_asked_for_start_elsewhere_and_a_hold_goes_on_there(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    before = fleet.ensure_all()
    lost = before[MODELS[0]].host
    held, *asked = servers_on(before, lost)
    with fleet.client.hold(held) as hold, ThreadPoolExecutor(len(asked)) as pool:
        assert hold.ready(LIMIT_S).host == lost
        callers = [pool.submit(fleet.ensure_elsewhere, model, lost) for model in asked]
        began = time.monotonic()
        fleet.network.hosts[lost].kill()
        until(lambda: not fleet.sees(lost))
        recovered.figure(f"noticed after {time.monotonic() - began:.2f} s")
        after = {server.model: server for server in (one.result(LIMIT_S) for one in callers)}
        recovered.note(time.monotonic() - began)
        after[held] = ready_elsewhere(hold, lost)
        recovered.figure(f"the hold goes on after {time.monotonic() - began:.2f} s")
        assert identity(fleet.ensure(held)) == identity(after[held])
        until(lambda: fleet.holds_of(held) == 1)
    for server in after.values():
        assert reaches(fleet.front.host, server.endpoint, LIMIT_S)
    assert_untouched(fleet, before, lost)


@pytest.mark.fault("host killed")
def test_a_killed_host_is_noticed_by_the_end_of_its_connection_before_any_beat(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup(front_keys='beat = "60s"\nlost_after = "120s"'))
    until(lambda: fleet.sees("b"))
    began = time.monotonic()
    fleet.network.hosts["b"].kill()
    until(lambda: not fleet.sees("b"))
    recovered.figure(f"noticed after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began < SOON_S


@pytest.mark.fault("host killed")
def test_a_killed_host_that_starts_again_is_seen_and_gets_models_again(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    before = fleet.ensure_all()
    lost = before[MODELS[0]].host
    fleet.network.hosts[lost].kill()
    after = {model: fleet.ensure_elsewhere(model, lost) for model in servers_on(before, lost)}
    fleet.network.hosts[lost].boot()
    with recovered.measured():
        fleet.start_member(lost)
        until(lambda: fleet.sees(lost))
    # It has the most room, as all that it had is elsewhere, and stays there.
    assert fleet.ensure(ANOTHER).host == lost
    assert_one_server_each(fleet, after)


@pytest.mark.fault("host killed or cut off during a start")
@pytest.mark.parametrize("fall_silent", [Host.kill, Host.cut], ids=["killed", "cut off"])
def test_a_call_that_waits_for_a_start_on_a_lost_host_gets_a_server_elsewhere_without_a_retry(
    start: Start, recovered: Recovery, fall_silent: Callable[[Host], None]
) -> None:
    fleet = start(Setup(members=replace(SETTINGS, flags="load=3")))
    with fleet.once() as client, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.ensure, ANOTHER, timeout=LIMIT_S)
        until(lambda: states_of(fleet, ANOTHER) == [ServerState.STARTING])
        (lost,) = fleet.hosts_of(ANOTHER)
        with recovered.measured():
            fall_silent(fleet.network.hosts[lost])
            server = waiting.result(LIMIT_S).server
    assert server.host != lost
    assert reaches(fleet.front.host, server.endpoint, LIMIT_S)
    assert identity(fleet.ensure(ANOTHER)) == identity(server)


def states_of(fleet: Fleet, model: str) -> list[ServerState]:
    """Return the states of the servers of a model that the front lists."""
    return [one.state for one in fleet.client.list() if one.model == model]


# --- cut off -----------------------------------------------------------------------------


@pytest.mark.fault("cable cut")
@pytest.mark.parametrize("direction", [None, *Direction], ids=["both ways", "to it", "from it"])
def test_models_of_a_host_that_is_cut_off_start_elsewhere_and_it_goes_on_until_the_heal(
    start: Start, recovered: Recovery, direction: Direction | None
) -> None:
    fleet = start(Setup())
    before = fleet.ensure_all()
    lost = before[MODELS[0]].host
    host = fleet.network.hosts[lost]
    left_alone, *asked = servers_on(before, lost)
    began = time.monotonic()
    if direction is None:
        host.cut()
    else:
        host.cut_one_way(direction)
    after = {model: fleet.ensure_elsewhere(model, lost) for model in asked}
    recovered.figure(f"elsewhere after {time.monotonic() - began:.2f} s")
    assert time.monotonic() - began > LOST_AFTER_S
    assert_untouched(fleet, before, lost)
    for model in (left_alone, *asked):
        told = fleet.members[lost].local_command("ensure", model, "--json")
        assert json.loads(told.stdout)["server"]["endpoint"] == before[model].endpoint
        assert reaches(host, before[model].endpoint, LIMIT_S)
    host.heal()
    with recovered.measured():
        until(lambda: fleet.sees(lost) and has_no_copies(fleet, after))
    # What nobody asked for is where it was.
    after[left_alone] = before[left_alone]
    assert_one_server_each(fleet, after)
    for model, server in after.items():
        assert identity(fleet.ensure(model)) == identity(server)


@pytest.mark.fault("host asleep")
def test_a_host_that_sleeps_is_lost_and_its_hold_moves_and_after_it_wakes_there_is_one_server(
    start: Start, recovered: Recovery
) -> None:
    # The copy that it held is gone long before the grace for a front that has vanished.
    fleet = start(Setup(member_keys='hold_grace = "10m"'))
    before = fleet.ensure_all()
    lost = before[MODELS[0]].host
    held, left_alone, *asked = servers_on(before, lost)
    with fleet.client.hold(held) as hold:
        assert hold.ready(LIMIT_S).host == lost
        began = time.monotonic()
        fleet.network.hosts[lost].sleep()
        with fleet.once() as client, pytest.raises(PoolUnreachable) as refused:
            list(client.logs(held, follow=True))
        assert refused.value.retry_after
        after = {model: fleet.ensure_elsewhere(model, lost) for model in asked}
        after[held] = ready_elsewhere(hold, lost)
        recovered.figure(f"elsewhere after {time.monotonic() - began:.2f} s")
        fleet.network.hosts[lost].wake()
        with recovered.measured():
            until(lambda: fleet.sees(lost) and has_no_copies(fleet, after))
        after[left_alone] = before[left_alone]
        assert_one_server_each(fleet, after)
        assert identity(hold.ready(LIMIT_S)) == identity(after[held])


@pytest.mark.fault("host asleep")
def test_calls_and_holds_wait_for_a_host_that_sleeps_for_less_than_it_may(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup(front_keys=f'lost_after = "{LIMIT_S}s"'))
    before = fleet.ensure_all()
    lost = before[MODELS[0]].host
    held, asked, *_ = servers_on(before, lost)
    with fleet.client.hold(held) as hold, ThreadPoolExecutor(1) as pool:
        assert hold.ready(LIMIT_S).host == lost
        fleet.network.hosts[lost].sleep()
        until(lambda: not fleet.sees(lost))
        waiting = pool.submit(fleet.ensure, asked)
        assert fleet.ensure(ANOTHER).host != lost
        assert not waiting.done()
        fleet.network.hosts[lost].wake()
        with recovered.measured():
            assert identity(waiting.result(LIMIT_S)) == identity(before[asked])
        until(lambda: fleet.holds_of(held) == 1)
        assert identity(hold.ready(LIMIT_S)) == identity(before[held])
    assert_one_server_each(fleet, before)


@pytest.mark.fault("host without power, and back before it is lost")
@pytest.mark.parametrize("outage_s", [0, 30], ids=["at once", "after 30 s"])
def test_calls_at_a_host_that_starts_again_before_it_is_lost_do_not_wait_for_its_old_connection(
    start: Start, recovered: Recovery, outage_s: int
) -> None:
    keys = f'lost_after = "{LIMIT_S}s"'
    fleet = start(Setup(members=replace(SETTINGS, flags="load=1"), front_keys=keys))
    before = fleet.ensure(MODELS[0])
    host = fleet.network.hosts[before.host]
    with fleet.client.hold(MODELS[0]) as hold, ThreadPoolExecutor(1) as pool:
        assert identity(hold.ready(LIMIT_S)) == identity(before)
        # Nothing tells the front that the connections are gone.
        waiting = pool.submit(next_generation, hold, before)
        host.lose()
        began = time.monotonic()
        until(lambda: not fleet.sees(before.host))
        until(lambda: time.monotonic() - began >= outage_s)
        host.boot()
        fleet.start_member(before.host)
        until(lambda: fleet.sees(before.host))
        # By the kernel's own timers it takes longer, the more so the longer the outage was.
        with recovered.measured():
            assert waiting.result(SOON_S).host == before.host
    assert fleet.ensure(MODELS[0]).generation > before.generation


def next_generation(states: Iterator[Server], before: Server) -> Server:
    """Return the first READY state of a hold that is of a later server than the one before."""
    ready = (one for one in states if one.state is ServerState.READY)
    return next(one for one in ready if one.generation > before.generation)


# --- most of them ------------------------------------------------------------------------


@pytest.mark.fault("more than half cut at once")
def test_a_front_that_loses_most_members_at_once_starts_nothing_until_it_sees_them_again(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    before = fleet.ensure_all()
    seen, *cut_off = sorted({server.host for server in before.values()})
    for host in cut_off:
        fleet.network.hosts[host].cut()
    until(lambda: all("lost" in fleet.notice_of(host) for host in cut_off))
    with fleet.once() as client:
        for model in (ANOTHER, *servers_on(before, cut_off[0])):
            with pytest.raises(PoolUnreachable, match="at once") as refused:
                client.ensure(model, timeout=LIMIT_S)
            assert refused.value.retry_after
        # A server that is seen is given out all the same.
        for model in servers_on(before, seen):
            assert identity(client.ensure(model).server) == identity(before[model])
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fleet.ensure, ANOTHER)
        for host in cut_off:
            fleet.network.hosts[host].heal()
        with recovered.measured():
            until(lambda: all(fleet.sees(host) for host in cut_off))
            waiting.result(LIMIT_S)
    # Nothing of what was there has moved.
    assert {model: identity(one) for model, one in fleet.ensure_all().items()} == {
        model: identity(one) for model, one in before.items()
    }
