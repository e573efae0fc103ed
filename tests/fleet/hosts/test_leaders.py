"""Claims about fleets with two fronts, of which etcd chooses the leader."""

import os
import signal
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from pool_service_client import PoolClient, PoolUnreachable, RetryPolicy, ServerState
from tests.certificates import Authority
from tests.fleet.hosts.fronts import SOCKET, Front
from tests.fleet.hosts.led_fleets import (
    FRONTS,
    LIMIT_S,
    LedFleet,
    leads_told,
    log_of,
    pausing,
    start_etcd,
    until,
    until_true,
)
from tests.fleet.hosts.members import Member, Members, MemberSettings
from tests.fleet.hosts.network import Network
from tests.toolchain import needed

MODELS = tuple(f"org/m{number}" for number in range(12))
LEASE_S = 3.0
BUSY_S = 20.0
"""The time that a busy machine may add to any other."""

ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def fleet(network: Network, tmp_path: Path) -> LedFleet:
    """A fleet whose front "one" leads, and whose front "other" follows."""
    one = unled(network, tmp_path)
    for name in FRONTS:
        one.start_front(name)
        assert one.leader() == "one"
    until_true(lambda: bool(leads_told(one.fronts["other"])))
    return one


def unled(network: Network, directory: Path, etcds: Sequence[str] = ("etcd",)) -> LedFleet:
    """Return a fleet of two members and an etcd, without fronts yet. etcds: the hosts of etcd."""
    needed("etcd")
    made, members = Members(directory, FRONTS), dict[str, Member]()
    for name in ("a", "b"):
        host = network.add(name)
        settings = MemberSettings(
            budget="3000 MiB",
            models=dict.fromkeys(MODELS, "100 MiB"),
            fronts=FRONTS,
            client="fleet = true",
            more=f'[fleet]\nname = "{name}"\nadvertise = "{host.address}"\n',
        )
        members[name] = made.start(host, settings)
    etcd = start_etcd(*(network.add(name) for name in etcds))
    return LedFleet(network, made, etcd, members)


def endpoints(front: Front, models: Sequence[str], pool: ThreadPoolExecutor) -> "dict[str, str]":
    """Return the endpoint of each model, all asked for at once at one front."""
    with front.client() as client:
        asked = [pool.submit(client.ensure, model, timeout=LIMIT_S) for model in models]
        answers = [one.result().server for one in asked]
        return {one.model: one.endpoint for one in answers}


def notices(front: Front) -> tuple[str, ...]:
    with front.client() as client:
        return tuple(next(client.pages(timeout=LIMIT_S)).notices)


def of_members(fleet: LedFleet) -> dict[str, list[str]]:
    """Return the endpoints of each model that the members have, whoever asks."""
    found = dict[str, list[str]]()
    for member in fleet.members.values():
        with member.client("one") as client:
            for server in client.list():
                if server.state not in (ServerState.STOPPING, ServerState.FAILED):
                    found.setdefault(server.model, []).append(server.endpoint)
    return found


def once(front: Front) -> PoolClient:
    """Return a client that tries nothing a second time."""
    return PoolClient.connect(f"unix:{front.host.directory / SOCKET}", retry=ONCE)


def seconds_until_placed(front: Front, model: str) -> float:
    """Ask for a new model until it is given out; return the seconds."""
    began = time.monotonic()
    with front.client() as client:
        client.ensure(model, timeout=LIMIT_S)
    return time.monotonic() - began


def test_a_model_that_is_asked_for_at_both_fronts_at_once_has_one_endpoint(
    fleet: LedFleet,
) -> None:
    with ThreadPoolExecutor(4 * len(MODELS)) as pool, ThreadPoolExecutor(4) as askers:
        fronts = [fleet.fronts[name] for name in FRONTS] * 2
        found = list(askers.map(lambda front: endpoints(front, MODELS, pool), fronts))
    assert all(one == found[0] for one in found)
    assert [notices(fleet.fronts[name]) for name in FRONTS] == [(), ()]
    assert of_members(fleet) == {model: [endpoint] for model, endpoint in found[0].items()}


@pytest.mark.parametrize("how", ["lost", "killed", "stopped in order"])
def test_another_front_leads_when_the_leader_is_gone_and_everything_stays(
    fleet: LedFleet, how: str
) -> None:
    one, other = fleet.fronts["one"], fleet.fronts["other"]
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(len(MODELS)))
        before = endpoints(other, MODELS[:4], pool)
        client = stack.enter_context(other.client())
        # The leader places this one, so that the follower holds it by the leader.
        held = stack.enter_context(client.hold(MODELS[4]))
        first = held.ready(LIMIT_S)
        if how == "lost":
            one.host.lose()
        elif how == "killed":
            one.process.kill()
        else:
            assert one.stop() == 0
        took = seconds_until_placed(other, MODELS[5])
        print(f"leader {how}: a new model is placed after {took:.1f} s")
        assert took < LEASE_S + 1 + BUSY_S
        assert fleet.leader("other") == "other"
        assert endpoints(other, MODELS[:4], pool) == before
        assert client.ensure(MODELS[4]).server.endpoint == first.endpoint
        assert held.ready(LIMIT_S).endpoint == first.endpoint
        # It goes on where it was, under its name, long after the grace.
        log = fleet.members[first.host].log
        until_true(lambda: "another hold of its name began" in log.read_text())
        assert holds(fleet, MODELS[4]) == 1
    until_true(lambda: holds(fleet, MODELS[4]) == 0)


def holds(fleet: LedFleet, model: str) -> int:
    """Return how many hold a model at the members."""
    count = 0
    for member in fleet.members.values():
        with member.client("one") as client:
            count += sum(server.holds for server in client.list() if server.model == model)
    return count


def test_a_hold_of_a_follower_that_is_killed_goes_on_for_the_grace(fleet: LedFleet) -> None:
    other = fleet.fronts["other"]
    with other.client() as client, client.hold(MODELS[0]) as held:
        server = held.ready(LIMIT_S)
        other.process.kill()
        member = fleet.members[server.host]
        logged = "the hold goes on without its front", "the hold has ended"
        told = until(lambda: next((one for one in logged if one in member.log.read_text()), ""))
        assert told == logged[0]
        assert holds(fleet, MODELS[0]) == 1


def test_a_hold_by_a_follower_ends_with_its_caller(fleet: LedFleet) -> None:
    other = fleet.fronts["other"]
    with other.client() as client:
        with client.hold(MODELS[0]) as held:
            member = fleet.members[held.ready(LIMIT_S).host]
            assert holds(fleet, MODELS[0]) == 1
        until_true(lambda: holds(fleet, MODELS[0]) == 0)
    assert "its front has ended it" in member.log.read_text()


def test_a_leader_that_is_cut_off_from_all_steps_down_before_another_leads(
    fleet: LedFleet,
) -> None:
    one, other = fleet.fronts["one"], fleet.fronts["other"]
    with ThreadPoolExecutor(len(MODELS)) as pool:
        before = endpoints(one, MODELS[:4], pool)
        one.host.cut()
        took = seconds_until_placed(other, MODELS[4])
        print(f"leader cut off: a new model is placed after {took:.1f} s")
        assert took < LEASE_S + 1 + BUSY_S
        assert stepped_down(one) < began_to_lead(other)
        with once(one) as client, pytest.raises(PoolUnreachable) as refused:
            client.ensure(MODELS[5], timeout=LIMIT_S)
        assert refused.value.retry_after is not None
        one.host.heal()
        with one.client() as client:
            client.ensure(MODELS[5], timeout=LIMIT_S)
        assert endpoints(one, MODELS[:4], pool) == endpoints(other, MODELS[:4], pool) == before
        assert fleet.leader() == "other"
    assert all(len(found) == 1 for found in of_members(fleet).values())


@pytest.mark.parametrize("lost", ["both", "questions", "answers"])
def test_a_leader_that_is_cut_off_from_etcd_alone_steps_down_before_another_leads(
    fleet: LedFleet, lost: str
) -> None:
    """Both reach all members: nothing but the lease keeps them from placing both."""
    one, other = fleet.fronts["one"], fleet.fronts["other"]
    with Placing(one, MODELS[:6]) as by_one, Placing(other, MODELS[6:]) as by_other:
        if lost in ("both", "questions"):
            fleet.network.switch.block("one", "etcd")
        if lost in ("both", "answers"):
            fleet.network.switch.block("etcd", "one")
        assert fleet.leader("other") == "other"
        by_other.wait()
        assert stepped_down(one) < began_to_lead(other)
        # It learns who leads now as soon as it reaches etcd again.
        one.host.heal()
        by_one.wait()
    found = of_members(fleet)
    assert sorted(found) == sorted(MODELS)
    assert all(len(places) == 1 for places in found.values())


class Placing:
    """Asks a front for one model after the other in the background, until it has all."""

    def __init__(self, front: Front, models: Sequence[str]) -> None:
        self._front = front
        self._models = models
        self._thread = threading.Thread(target=self._place)
        self._left = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        self._thread.join()

    def wait(self) -> None:
        """Wait until it has all."""
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()
        assert self._error is None

    def _place(self) -> None:
        try:
            with once(self._front) as client:
                for model in self._models:
                    while not self._is_placed(client, model):
                        if self._left.wait(0.1):
                            return
        except Exception as error:  # noqa: BLE001 - for the test
            self._error = error

    def _is_placed(self, client: PoolClient, model: str) -> bool:
        """Ask for a model once; return False if no front leads that this one knows."""
        try:
            client.ensure(model, timeout=LIMIT_S)
        except PoolUnreachable:
            return False
        # A model every half second, over the time in which the leader changes.
        self._left.wait(0.5)
        return True


def stepped_down(front: Front) -> str:
    """Return when a front has said that it leads no more."""
    told = leads_told(front)
    last = max(number for number, (_, leads) in enumerate(told) if leads)
    return told[last + 1][0]


def began_to_lead(front: Front) -> str:
    """Return when a front has said that it leads."""
    return next(at for at, leads in leads_told(front) if leads)


def test_a_leader_that_was_paused_before_it_places_a_model_starts_no_second_server(
    network: Network, tmp_path: Path
) -> None:
    """The epoch alone stops it: it has checked that it leads, and sends the call as it wakes."""
    fleet = unled(network, tmp_path)
    one = fleet.start_front("one", pausing(tmp_path))
    assert fleet.leader() == "one"
    other = fleet.start_front("other")
    until_true(lambda: bool(leads_told(other)))
    stop = tmp_path / "stop"
    stop.touch()
    with ThreadPoolExecutor(len(MODELS)) as pool, ThreadPoolExecutor(2) as asker:
        placing = asker.submit(endpoints, one, MODELS[:1], pool)
        until_true(lambda: not stop.exists())
        waiting = asker.submit(endpoints, one, MODELS[2:], pool)
        with ThreadPoolExecutor(len(MODELS)) as others:
            # This one takes the place that the stopped front has chosen, so that the next one
            # does not come there.
            taken = endpoints(other, MODELS[1:2], others)
            found = endpoints(other, MODELS[:1], others)
            assert host_of(taken[MODELS[1]]) != host_of(found[MODELS[0]])
            rest = endpoints(other, MODELS[2:], others)
        assert not placing.done()
        assert fleet.leads("other")
        os.kill(one.process.pid, signal.SIGCONT)
        assert placing.result(LIMIT_S) == found
        assert waiting.result(LIMIT_S) == rest
    everything = taken | found | rest
    assert of_members(fleet) == {model: [endpoint] for model, endpoint in everything.items()}
    assert refused_as_stale(fleet), "no call came after its time, so that nothing was shown"


def host_of(endpoint: str) -> str:
    return endpoint.removeprefix("http://").rpartition(":")[0]


def refused_as_stale(fleet: LedFleet) -> int:
    """Return how many calls the members have refused, since another front leads."""
    files = [one.host.directory / "state" / "events.jsonl" for one in fleet.members.values()]
    return sum(file.read_text().count('"STALE_FLEET"') for file in files)


def test_without_etcd_what_is_ready_is_given_out_and_nothing_new_is_started(
    fleet: LedFleet,
) -> None:
    with ThreadPoolExecutor(len(MODELS)) as pool, ExitStack() as stack:
        before = endpoints(fleet.fronts["one"], MODELS[:4], pool)
        fleet.etcd.host.lose()
        until_true(lambda: not fleet.leads("one"))
        for front in fleet.fronts.values():
            client = stack.enter_context(once(front))
            assert endpoints(front, MODELS[:4], pool) == before
            with pytest.raises(PoolUnreachable) as refused:
                client.ensure(MODELS[4], timeout=LIMIT_S)
            assert refused.value.reason == "POOL_UNREACHABLE"
            assert refused.value.retry_after
        assert any("No front leads the fleet" in one for one in notices(fleet.fronts["one"]))
        assert of_members(fleet) == {model: [found] for model, found in before.items()}
        # Who asks a member itself is served as ever.
        member = fleet.members["a"]
        assert member.local_command("ensure", MODELS[5]).returncode == 0
        start_again(fleet)
        for number, front in enumerate(fleet.fronts.values(), 6):
            with front.client() as patient:
                patient.ensure(MODELS[number], timeout=LIMIT_S)
            assert endpoints(front, MODELS[:4], pool) == before


def test_another_front_leads_also_while_a_host_of_etcd_is_lost_whichever_it_is(
    network: Network, tmp_path: Path
) -> None:
    """The other two go on, after an election of their own if it was their leader."""
    etcds = ("etcd1", "etcd2", "etcd3")
    fleet = unled(network, tmp_path, etcds)
    for name in FRONTS:
        fleet.start_front(name)
    models = iter(MODELS)
    processes = dict(zip(etcds, (fleet.etcd.process, *fleet.etcd.others), strict=True))
    for name, process in processes.items():
        leader = fleet.leader()
        other = FRONTS[1 - FRONTS.index(leader)]
        network.hosts[name].lose()
        fleet.fronts[leader].process.kill()
        took = seconds_until_placed(fleet.fronts[other], next(models))
        print(f"leader and {name} lost: a new model is placed after {took:.1f} s")
        assert fleet.leader(other) == other
        network.hosts[name].boot()
        process.start()
        (fleet.fronts[leader].host.directory / SOCKET).unlink()
        fleet.fronts[leader].log.unlink()
        fleet.start_front(leader)
    assert all(len(found) == 1 for found in of_members(fleet).values())


def start_again(fleet: LedFleet) -> None:
    """Start etcd again on its host, with its data."""
    fleet.etcd.host.boot()
    fleet.etcd.process.start()


@pytest.mark.parametrize("client", ["stranger", ""], ids=["of others", "none"])
def test_a_front_without_the_right_certificate_says_so_and_leads_nobody(
    network: Network, tmp_path: Path, client: str
) -> None:
    fleet = unled(network, tmp_path)
    fleet.etcd.issue("stranger", Authority("of others"))
    front = fleet.start_front("one", client=client)
    told = until(
        lambda: next(
            (str(one["reason"]) for one in log_of(front) if one["event"] == "fleet_engine_failed"),
            "",
        )
    )
    assert "refuses the certificate of this client, or that there is none" in told
    with once(front) as caller, pytest.raises(PoolUnreachable):
        caller.ensure(MODELS[0], timeout=LIMIT_S)
