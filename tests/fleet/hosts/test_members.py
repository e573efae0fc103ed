"""Claims about members on hosts of their own: what a front sees of all that happens to a host."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from pool_service_client import ServerState
from tests.certificates import Authority, uri
from tests.fleet.hosts.members import FRONT, Member, Members, MemberSettings, reaches, san_of
from tests.fleet.hosts.network import Direction, Network
from tests.fleet.hosts.watching import LIMIT_S, Watching

SILENCE_S = 1.0
SOON_S = 10.0
"""Sooner than any timer of gRPC."""

TIME_IS_OVER = 4
"""The exit code of a command whose --timeout is over."""

SETTINGS = MemberSettings(models={"one": "100 MiB", "two": "100 MiB"})


@pytest.fixture
def members(tmp_path: Path) -> Members:
    return Members(tmp_path)


def listed(channel: grpc.Channel, limit_s: float) -> grpc.StatusCode:
    """Return how a question ends."""
    try:
        pb_grpc.PoolServiceStub(channel).List(pb.ListRequest(page_size=1), timeout=limit_s)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        return code
    return grpc.StatusCode.OK


def ensured(member: Member, model: str) -> pb.Server:
    """Ask a member for a model, from outside of the network's hosts."""
    with member.channel() as channel:
        request = pb.EnsureRequest(model=model)
        answer = pb_grpc.PoolServiceStub(channel).Ensure(request, timeout=LIMIT_S)
        server: pb.Server = answer.server
        return server


def test_a_front_on_another_host_gets_an_endpoint_that_a_third_one_reaches(
    network: Network, members: Members
) -> None:
    one, other, third = (members.start(network.add(name), SETTINGS) for name in ("a", "b", "c"))
    told = one.command(other.host, "ensure", "one", "--json")
    assert told.returncode == 0, told.stderr
    endpoint = json.loads(told.stdout)["server"]["endpoint"]
    assert reaches(third.host, endpoint)
    assert "READY" in one.local_command("list").stdout
    assert ensured(third, "one").endpoint.startswith(f"http://{third.host.address}:")
    one.host.cut()
    assert not reaches(third.host, endpoint, SILENCE_S)


@pytest.mark.parametrize(
    "settings",
    [replace(SETTINGS, kind="vllm-mlx"), replace(SETTINGS, servers_at="127.0.0.1")],
    ids=["vllm-mlx", "plain"],
)
def test_a_server_on_loopback_is_reached_from_its_own_host_alone(
    network: Network, members: Members, settings: MemberSettings
) -> None:
    member, other = members.start(network.add("a"), settings), network.add("b")
    endpoint = ensured(member, "one").endpoint
    assert reaches(member.host, endpoint)
    assert not reaches(other, endpoint)


def test_a_caller_with_the_certificate_of_another_authority_is_not_let_in(
    network: Network, members: Members
) -> None:
    member = members.start(network.add("a"))
    stranger = Authority("stranger").issue(uri(san_of(FRONT)))
    shown = grpc.ssl_channel_credentials(
        member.credentials[FRONT].ca.read_bytes(), stranger.key, stranger.chain
    )
    with grpc.secure_channel(member.address, shown) as channel:
        assert listed(channel, LIMIT_S) is grpc.StatusCode.UNAVAILABLE
    with member.channel() as channel:
        assert listed(channel, LIMIT_S) is grpc.StatusCode.OK


def test_a_watch_of_a_killed_host_ends_at_once_and_a_new_start_serves_again(
    network: Network, members: Members
) -> None:
    member = members.start(network.add("a"), SETTINGS)
    ensured(member, "one")
    with member.channel() as channel, Watching(channel) as watch:
        member.host.kill()
        assert watch.end(SOON_S) is grpc.StatusCode.UNAVAILABLE
    member.host.boot()
    again = members.start(member.host, SETTINGS)
    assert ensured(again, "one").generation > 1


def test_a_watch_of_a_lost_host_is_silent_and_a_call_waits_until_its_deadline(
    network: Network, members: Members
) -> None:
    member = members.start(network.add("a"), SETTINGS)
    with member.channel() as channel, Watching(channel) as watch:
        member.host.lose()
        assert watch.is_silent(SILENCE_S)
        assert listed(channel, SILENCE_S) is grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("direction", [None, *Direction])
def test_a_watch_goes_on_when_a_cut_is_healed(
    network: Network, members: Members, direction: Direction | None
) -> None:
    member = members.start(network.add("a"), SETTINGS)
    with member.channel() as channel, Watching(channel) as watch:
        if direction is None:
            member.host.cut()
        else:
            member.host.cut_one_way(direction)
        assert member.local_command("ensure", "one").returncode == 0
        assert listed(channel, SILENCE_S) is grpc.StatusCode.DEADLINE_EXCEEDED
        # What a host sends that gets no acknowledgements may arrive, but soon it sends no more.
        assert direction is Direction.TO or watch.is_silent(0)
        member.host.heal()
        watch.wait_until_ready("one")
        assert listed(channel, LIMIT_S) is grpc.StatusCode.OK


@pytest.mark.parametrize("sleeps", [True, False], ids=["asleep", "paused"])
def test_a_host_that_sleeps_or_is_paused_answers_nothing_and_later_goes_on(
    network: Network, members: Members, sleeps: bool
) -> None:
    member = members.start(network.add("a"), SETTINGS)
    server = ensured(member, "one")
    with member.channel() as channel, Watching(channel) as watch:
        (member.host.sleep if sleeps else member.host.pause)()
        assert listed(channel, SILENCE_S) is grpc.StatusCode.DEADLINE_EXCEEDED
        assert watch.is_silent(0)
        (member.host.wake if sleeps else member.host.resume)()
        assert listed(channel, LIMIT_S) is grpc.StatusCode.OK
    assert ensured(member, "one").pid == server.pid


def test_a_member_is_replaced_and_its_host_and_its_servers_live_on(
    network: Network, members: Members
) -> None:
    first = members.start(network.add("a"), SETTINGS)
    server = ensured(first, "one")
    second = members.start(first.host, SETTINGS, "--replace")
    assert first.process.wait(LIMIT_S) == 0
    assert ensured(second, "one").pid == server.pid
    assert second.stop() == 0


def test_a_server_is_killed_by_its_number_in_the_machine(
    network: Network, members: Members
) -> None:
    member = members.start(network.add("a"), SETTINGS)
    server = ensured(member, "one")
    with member.channel() as channel, Watching(channel) as watch:
        os.kill(member.host.outer_pid(server.pid), signal.SIGKILL)
        while watch.next().server.state == pb.SERVER_STATE_READY:
            pass
    with member.client() as client:
        assert client.ensure("one").server.state is ServerState.READY


@pytest.mark.parametrize("offset_s", [-7200, 7200])
def test_a_host_whose_clock_is_wrong_serves_by_its_own_time_and_keeps_deadlines(
    network: Network, members: Members, offset_s: int
) -> None:
    right, wrong = network.add("right"), network.add("wrong")
    wrong.shift_clock(offset_s)
    one, other = (members.start(host, SETTINGS) for host in (right, wrong))
    apart = (
        ensured(other, "one").ready_time.ToSeconds() - ensured(one, "one").ready_time.ToSeconds()
    )
    assert abs(apart - offset_s) < LIMIT_S
    never = ("ensure", "never", "--runtime-model", "never?load=1000", "--timeout", "1s")
    for member, caller in ((one, wrong), (other, right)):
        assert member.command(caller, *never).returncode == TIME_IS_OVER
