"""Claims about models with servers on two hosts, and about what tells one server from the next."""

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from pool_service_client import Server
from tests.faults.table import Recovery
from tests.fleet.hosts.fleets import (
    HOSTS,
    LIMIT_S,
    MODELS,
    SETTINGS,
    Fleet,
    Setup,
    identity,
    until,
)

Start = Callable[[Setup], Fleet]

MODEL = MODELS[0]

EVICTIONS = 3
"""How often a front tries to evict a copy in use, before the test ends the use."""

STREAM = """
import json, sys, urllib.request
endpoint, model = sys.argv[1:]
body = {"model": model, "stream": True, "max_tokens": 1, "messages": [{"role": "user"}]}
headers = {"Content-Type": "application/json"}
url, data = endpoint + "/v1/chat/completions", json.dumps(body).encode()
request = urllib.request.Request(url, data, headers)
with urllib.request.urlopen(request) as answer:
    for line in answer:
        sys.stdout.write(line.decode())
        sys.stdout.flush()
"""
"""Reads a streamed answer to its end, and tells all that comes."""


def others(host: str) -> list[str]:
    """Return the other hosts."""
    return [one for one in HOSTS if one != host]


def asked_directly(fleet: Fleet, host: str, model: str) -> None:
    """Ask a member for a model, from its own host, as an engine there does."""
    done = fleet.members[host].local_command("ensure", model)
    assert done.returncode == 0, done.stderr


def has_one_server(fleet: Fleet, server: Server) -> bool:
    """Return whether a server is the only one of its model that the front lists."""
    listed = [one for one in fleet.client.list() if one.model == server.model]
    return [identity(one) for one in listed] == [identity(server)]


# --- copies ------------------------------------------------------------------------------


@pytest.mark.fault("an engine asks a member directly")
def test_a_server_that_was_asked_for_at_a_member_is_given_out_by_the_front(
    start: Start,
) -> None:
    fleet = start(Setup())
    for host, model in zip(HOSTS, MODELS, strict=False):
        with fleet.watching() as watch:
            asked_directly(fleet, host, model)
            watch.wait_until_ready(model)
        server = fleet.ensure(model)
        assert server.host == host
        assert server.generation == 1
        assert has_one_server(fleet, server)


@pytest.mark.fault("an engine asks a member directly")
def test_a_copy_that_a_member_was_asked_for_is_evicted_and_what_was_handed_out_stays(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    server = fleet.ensure(MODEL)
    for host in others(server.host):
        asked_directly(fleet, host, MODEL)
    with recovered.measured():
        until(lambda: has_one_server(fleet, server))
    assert identity(fleet.ensure(MODEL)) == identity(server)


@pytest.mark.fault("an engine asks a member directly")
def test_members_that_serve_their_fleet_only_refuse_who_asks_them_directly(start: Start) -> None:
    fleet = start(Setup(member_keys="only_fleet = true"))
    server = fleet.ensure(MODEL)
    for host in HOSTS:
        refused = fleet.members[host].local_command("ensure", MODEL)
        assert refused.returncode != 0
        assert "front" in refused.stderr
    assert has_one_server(fleet, server)


@pytest.mark.fault("heal with a doubled copy in use")
def test_a_copy_in_use_is_never_cut_off_after_a_heal_and_gone_once_it_is_unused(
    start: Start, recovered: Recovery, tmp_path: Path
) -> None:
    may_end = tmp_path / "may-end"
    flags = f"{SETTINGS.flags}&answers_until={may_end}"
    fleet = start(Setup(members=replace(SETTINGS, flags=flags)))
    old = fleet.ensure(MODEL)
    host = fleet.network.hosts[old.host]
    answer = tmp_path / "answer"
    with answer.open("w") as out:
        words = [sys.executable, "-S", "-E", "-c", STREAM, old.endpoint, old.served_model_name]
        reader = host.popen(words, stdout=out.fileno())
        until(lambda: "t5 " in answer.read_text())
        host.cut()
        new = fleet.ensure_elsewhere(MODEL, old.host)
        host.heal()
        until(lambda: fleet.front.log.read_text().count("evicting a copy") >= EVICTIONS)
        assert sorted(fleet.hosts_of(MODEL)) == sorted((old.host, new.host))
        assert identity(fleet.ensure(MODEL)) == identity(new)
        assert reader.poll() is None
        may_end.touch()
        with recovered.measured():
            until(lambda: has_one_server(fleet, new))
        assert reader.wait(LIMIT_S) == 0
    *tokens, end = events_of(answer.read_text())
    assert end == "[DONE]"
    assert tokens == [f"t{number} " for number in range(len(tokens))]
    assert identity(fleet.ensure(MODEL)) == identity(new)


def events_of(text: str) -> list[str]:
    """Return the tokens of a streamed answer, and what its end says."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    *chunks, end = events
    told = [json.loads(chunk)["choices"][0]["delta"].get("content") for chunk in chunks]
    return [*(one for one in told if one is not None), end]


# --- generations -------------------------------------------------------------------------


@pytest.mark.fault("a model that moves")
def test_the_generation_of_a_model_only_rises_however_its_servers_end_and_move(
    start: Start, recovered: Recovery
) -> None:
    fleet = start(Setup())
    servers = [fleet.ensure(MODEL)]
    for what in (die, be_cut_off, die, be_killed, be_evicted, be_cut_off, die, be_cut_off):
        servers.append(next_server(fleet, servers[-1], what))
    moves = sum(one.host != other.host for one, other in pairwise(servers))
    recovered.figure(f"{moves} moves of {len(servers)} servers")
    # So it does for the next front, which remembers nothing.
    fleet.restart_front()
    assert identity(fleet.ensure(MODEL)) == identity(servers[-1])
    servers.append(next_server(fleet, servers[-1], be_cut_off))
    generations = [server.generation for server in servers]
    assert generations == sorted(set(generations)), servers


def next_server(fleet: Fleet, before: Server, what: Callable[[Fleet, Server], None]) -> Server:
    """Return the server that callers are given after something has happened to the one before."""
    what(fleet, before)
    until(lambda: identity(fleet.ensure(before.model)) != identity(before))
    return fleet.ensure(before.model)


def die(fleet: Fleet, server: Server) -> None:
    """Kill its process."""
    os.kill(fleet.network.hosts[server.host].outer_pid(server.pid), signal.SIGKILL)


def be_evicted(fleet: Fleet, server: Server) -> None:
    """Evict it."""
    assert fleet.client.evict(server.model, timeout=LIMIT_S)


def be_cut_off(fleet: Fleet, server: Server) -> None:
    """Cut its host off until the model is elsewhere, and then until no copy is left."""
    host = fleet.network.hosts[server.host]
    host.cut()
    after = fleet.ensure_elsewhere(server.model, server.host)
    host.heal()
    until(lambda: fleet.sees(server.host) and fleet.hosts_of(server.model) == [after.host])


def be_killed(fleet: Fleet, server: Server) -> None:
    """Kill its host until the model is elsewhere, and start the host and its member again."""
    host = fleet.network.hosts[server.host]
    host.kill()
    fleet.ensure_elsewhere(server.model, server.host)
    host.boot()
    fleet.start_member(server.host)
    until(lambda: fleet.sees(server.host))
