"""Claims about a change of state as the page of a front reads it, and which changes it keeps."""

import json
from dataclasses import replace
from typing import Any

from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Presence, SeenServer, ServerState
from pool_service.fleet.members.messages import seen
from pool_service.fleet.page import FrontPage
from pool_service.fleet.rpc.page_json import change_json
from pool_service.v1 import pool_service_pb2 as pb


def told(host: str = "a", state: str = "READY", generation: int = 3, **more: Any) -> SeenServer:  # noqa: ANN401
    number = pb.ServerState.Value(f"SERVER_STATE_{state}")
    current = pb.SERVER_ROLE_CURRENT
    message = pb.Server(model="m", generation=generation, state=number, role=current, **more)
    return seen(host, message, 1)


def change(server: SeenServer, why: str = "") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(change_json(server, server.state, 7.5, why))
    return found


def test_a_change_names_its_server_and_host() -> None:
    assert change(told()) == {
        "model": "m",
        "generation": 3,
        "host": "a",
        "state": "SERVER_STATE_READY",
        "at": 7.5,
        "why": "",
        "cause": "",
        "preemptor": "",
    }


def test_a_server_that_ends_says_why_and_how_it_has_ended() -> None:
    crash = pb.Exit(generation=3, cause=pb.EXIT_CAUSE_CRASHED, message="exited with code 3")
    found = change(told(state="STOPPING", last_exit=crash))
    assert (found["cause"], found["why"]) == ("CRASHED", "exited with code 3")
    found = change(told(state="STOPPING", detail="unused", last_exit=crash, generation=4))
    assert (found["cause"], found["why"]) == ("STOPPED", "unused"), "the exit is of another one"


class Kept:
    """The page's changes after some events."""

    def __init__(self) -> None:
        self.page = FrontPage()
        self._cursor = ""

    def observe(self, *commands: cmd.Command) -> list[tuple[str, str, str]]:
        """The host, the state and the reason of each change that these commands make."""
        self.page.observe(ev.TimeReached(), commands)
        answer = self.page.changes_after(self._cursor)
        self._cursor = answer.cursor
        changes = [json.loads(one) for one in answer.changes]
        return [(one["host"], one["state"], one["why"]) for one in changes]


def test_only_changes_of_state_are_kept() -> None:
    kept, ready = Kept(), told()
    assert kept.observe(cmd.Publish(ready, removed=False)) == [("a", "SERVER_STATE_READY", "")]
    again = replace(ready, needed=5)
    assert kept.observe(cmd.Publish(again, removed=False)) == []
    stopping = replace(ready, state=ServerState.STOPPING)
    ((_, state, _),) = kept.observe(cmd.Publish(stopping, removed=False))
    assert state == "SERVER_STATE_STOPPING"


def test_two_hosts_may_change_a_model_of_one_generation() -> None:
    kept = Kept()
    commands = [cmd.Publish(told(host), removed=False) for host in ("a", "b")]
    assert [host for host, _, _ in kept.observe(*commands)] == ["a", "b"]


def test_the_servers_of_a_lost_host_are_gone_for_that_reason() -> None:
    kept = Kept()
    kept.observe(cmd.Publish(told(), removed=False))
    found = kept.observe(
        cmd.NotePresence("a", Presence.LOST, "no answer"), cmd.Publish(told(), removed=True)
    )
    assert found == [("a", "", "a is lost: no answer")]
    ((_, state, _),) = kept.observe(cmd.Publish(told(), removed=False))
    assert state == "SERVER_STATE_READY", "seen again"
