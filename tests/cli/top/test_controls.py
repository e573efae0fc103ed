"""Each key does what the help says."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from pool_service.cli.top.actions import (
    Action,
    CloseLog,
    Ensure,
    Evict,
    ListModels,
    LookAtChoice,
    OpenLog,
    Pin,
    Quit,
)
from pool_service.cli.top.controls import Controls, Mode
from pool_service.cli.top.picture import Picture
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import NOW, know, picture, receive, removed, server

STARTING, QUEUED = pb.SERVER_STATE_STARTING, pb.SERVER_STATE_QUEUED


@dataclass
class Clock:
    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def press(controls: Controls, shown: Picture, *keys: str) -> Action | None:
    """The action of the last key, when each is pressed after what those before it did was read."""
    clock = controls.clock if isinstance(controls.clock, Clock) else Clock()
    controls.clock = clock
    action = None
    for key in keys:
        controls.drawn()
        clock.go_on(0.5)
        action = controls.press(key, shown)
    return action


@pytest.mark.parametrize(
    ("key", "action"),
    [
        ("E", Ensure("m")),
        ("e", Evict("m")),
        ("p", Pin("m", pinned=True)),
        ("l", OpenLog("m")),
        ("d", LookAtChoice()),
        ("\n", LookAtChoice()),
        ("a", ListModels()),
        ("?", None),
        ("q", Quit()),
        ("x", None),
    ],
)
def test_each_key_acts_on_the_chosen_model(key: str, action: Action | None) -> None:
    assert press(Controls(), picture(server("m")), key) == action


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ([], "a"),
        (["down"], "b"),
        (["down", "down", "up"], "b"),
        (["up"], "a"),
        (["end"], "d"),
        (["end", "down"], "d"),
        (["page down"], "d"),
        (["end", "home"], "a"),
    ],
)
def test_the_choice_moves_and_stays_within_the_rows(keys: list[str], chosen: str) -> None:
    shown = picture(*map(server, "abcd"))
    assert press(Controls(), shown, *keys, "l") == OpenLog(chosen)


def test_the_chosen_model_stays_chosen_when_rows_come_and_go() -> None:
    controls, shown = Controls(), picture(server("b"), server("c"))
    press(controls, shown, "down")
    more = picture(server("a"), server("b"), server("c", generation=2))
    assert press(controls, more, "e") == Evict("c")


def test_a_pinned_model_is_unpinned_with_and_without_a_server() -> None:
    shown = picture(server("m", pinned=True))
    know(shown, [pb.Model(model="other", pinned=True)])
    assert press(Controls(), shown, "p") == Pin("m", pinned=False)
    assert press(Controls(), shown, "down", "p") == Pin("other", pinned=False)


@pytest.mark.parametrize(
    ("fields", "why", "force"),
    [
        ({"holds": 1}, "m is held once", True),
        ({"holds": 2}, "m is held 2 times", True),
        ({"state": STARTING}, "m is STARTING, and calls that wait for it fail", False),
        ({"state": QUEUED}, "m is QUEUED, and calls that wait for it fail", False),
        ({"pinned": True}, "m is pinned", False),
    ],
)
def test_what_is_held_waited_for_or_pinned_is_evicted_only_after_y(
    fields: dict[str, Any], why: str, force: bool
) -> None:
    shown = picture(server("m", **fields))
    controls = Controls()
    assert press(controls, shown, "e") is None
    assert [(one.model, one.why) for one in controls.questions] == [("m", why)]
    assert press(controls, shown, "n") is None
    assert controls.messages[-1].text == "nothing was stopped"
    assert press(controls, shown, "e", "y") == Evict("m", force=force)
    assert press(controls, shown, "y") is None


def test_a_key_typed_before_the_question_was_shown_is_no_answer_to_it() -> None:
    controls, shown = Controls(), picture(server("m", holds=1))
    press(controls, shown, "e")
    for key in "yn":
        assert controls.press(key, shown) is None
    assert len(controls.questions) == 1
    assert press(controls, shown, "y") == Evict("m", force=True)


def test_a_yes_counts_only_once_the_question_was_on_the_screen_for_half_a_second() -> None:
    clock = Clock()
    controls, shown = Controls(clock=clock), picture(server("m", holds=1))
    press(controls, shown, "e")
    controls.drawn()
    for _ in range(30):
        clock.go_on(0.03)
        controls.drawn()
        assert controls.press("y", shown) is None
    clock.go_on(0.5)
    assert controls.press("y", shown) == Evict("m", force=True)


def test_a_no_counts_as_soon_as_the_question_is_on_the_screen() -> None:
    controls, shown = Controls(clock=Clock()), picture(server("m", holds=1))
    press(controls, shown, "e")
    controls.drawn()
    assert controls.press("n", shown) is None
    assert controls.questions == []


@pytest.mark.parametrize("seconds", [60, 3600, -3600])
def test_a_yes_to_an_old_question_asks_the_service_whether_the_server_is_in_use(
    seconds: float,
) -> None:
    clock = Clock()
    controls, shown = Controls(clock=clock), picture(server("m"))
    controls.ask_before_evicting("m", "m has 1 request in flight", shown.current("m"))
    clock.go_on(seconds)
    assert press(controls, shown, "y") == Evict("m", again="more than a minute has passed")
    controls.ask_before_evicting("m", "m has 1 request in flight", shown.current("m"))
    clock.go_on(58)
    assert press(controls, shown, "y") == Evict("m", force=True)


def test_a_question_that_came_behind_a_text_is_answered_only_once_it_was_shown() -> None:
    controls, shown = Controls(), picture(server("m", holds=1))
    press(controls, shown, "e", "n", "l")
    controls.ask_before_evicting("m", "m is in use", shown.current("m"))
    controls.drawn()
    controls.press("q", shown)
    assert controls.press("y", shown) is None
    assert press(controls, shown, "y") == Evict("m", force=True)


@pytest.mark.parametrize(
    ("before", "now", "why", "force"),
    [
        ({"holds": 1}, {"holds": 2}, "more hold it now: m is held 2 times", True),
        (
            {"holds": 1},
            {"holds": 1, "generation": 5},
            "generation 5 now: m is held once",
            True,
        ),
        ({"holds": 1}, {"holds": 1, "pinned": True}, "pinned now: m is held once", True),
        ({"holds": 1}, {"generation": 5}, "m has changed since: generation 5 is READY", False),
        (
            {"pinned": True},
            {"pinned": True, "holds": 1},
            "more hold it now: m is held once",
            True,
        ),
        ({"state": STARTING}, {}, "m has changed since: generation 1 is READY", False),
        (
            {"holds": 1},
            {"holds": 1, "state": pb.SERVER_STATE_STOPPING},
            "STOPPING now: m is held once",
            True,
        ),
    ],
)
def test_a_yes_to_what_has_changed_since_the_question_asks_anew(
    before: dict[str, Any], now: dict[str, Any], why: str, force: bool
) -> None:
    controls, changed = Controls(), picture(server("m", **now))
    press(controls, picture(server("m", **before)), "e")
    assert press(controls, changed, "y") is None
    assert [one.why for one in controls.questions] == [why]
    assert press(controls, changed, "y") == Evict("m", force=force)


def test_a_yes_counts_if_fewer_hold_the_server_than_was_said() -> None:
    controls = Controls()
    press(controls, picture(server("m", holds=3)), "e")
    assert press(controls, picture(server("m", holds=2)), "y") == Evict("m", force=True)


def test_a_yes_to_a_server_that_has_gone_stops_nothing() -> None:
    controls = Controls()
    press(controls, picture(server("m", holds=1)), "e")
    assert press(controls, picture(server("n")), "y") is None
    assert controls.questions == []
    assert controls.messages[-1].text == "m has no server any more"


def test_another_key_than_y_neither_evicts_nor_does_what_it_else_does() -> None:
    shown = picture(server("m", holds=1))
    for key in ("e", "E", "q", "escape", "\n", "up"):
        assert press(Controls(), shown, "e", key) is None


def test_a_question_that_comes_while_a_text_is_shown_is_not_answered_by_its_keys() -> None:
    controls, shown = Controls(), picture(server("m"))
    press(controls, shown, "l")
    controls.ask_before_evicting("m", "m is in use", shown.current("m"))
    assert press(controls, shown, "y") is None
    assert press(controls, shown, "q") == CloseLog()
    assert press(controls, shown, "y") == Evict("m", force=True)


def test_a_question_that_comes_while_another_is_open_is_asked_after_it() -> None:
    controls, shown = Controls(), picture(server("b", pinned=True), server("c"))
    press(controls, shown, "e")
    controls.ask_before_evicting("c", "c is in use", shown.current("c"))
    assert press(controls, shown, "y") == Evict("b", force=False)
    assert press(controls, shown, "y") == Evict("c", force=True)


@pytest.mark.parametrize("key", ["e", "E", "p", "l", "d"])
def test_no_key_acts_on_the_row_in_the_place_of_one_that_has_gone(key: str) -> None:
    controls = Controls()
    assert press(controls, picture(server("x"), server("y"), server("z")), "down", "e") == Evict(
        "y"
    )
    left = picture(server("x"), server("z"))
    assert press(controls, left, key) is None
    assert press(controls, left, key) is None
    assert controls.messages[-1].text == "y has gone; choose another row with the arrow keys first"
    assert press(controls, left, "up", "e") == Evict("x")


@pytest.mark.parametrize(
    ("model", "role", "name"),
    [
        ("", pb.SERVER_ROLE_ORPHAN, "(orphan)"),
        ("m", pb.SERVER_ROLE_SUPERSEDED, "m (superseded)"),
        ("m", pb.SERVER_ROLE_SUCCESSOR, "m (successor)"),
    ],
)
def test_no_key_acts_on_the_row_in_the_place_of_a_server_beside_the_current_one(
    model: str, role: pb.ServerRole.ValueType, name: str
) -> None:
    beside = server(model, role=role)
    controls, shown = Controls(), picture(beside, server("m", generation=2))
    assert press(controls, shown, "home", "e") is None
    receive(shown, removed(beside, revision=2))
    assert press(controls, shown, "e", "e") is None
    assert controls.messages[-1].text.startswith(f"{name} has gone; choose another row")
    assert press(controls, shown, "up", "e") == Evict("m")


@pytest.mark.parametrize("key", ["E", "e", "p", "l", "d"])
def test_no_key_acts_on_a_server_whose_name_stands_for_another_model_now(key: str) -> None:
    controls, shown = Controls(), picture(server("m"), server("old", holds=1))
    know(shown, [pb.Model(model="m", aliases=["old"], listed=True)])
    assert press(controls, shown, "end", key) is None
    assert (controls.questions, controls.mode) == ([], Mode.TABLE)
    text = "old: its name stands for 'm' now; choose m"
    assert [one.text for one in controls.messages] == [text]


@pytest.mark.parametrize(
    ("role", "why"),
    [
        (pb.SERVER_ROLE_SUCCESSOR, "takes over once it is ready"),
        (pb.SERVER_ROLE_SUPERSEDED, "ends once its last requests are answered"),
    ],
)
def test_a_server_beside_the_current_one_is_not_evicted(
    role: pb.ServerRole.ValueType, why: str
) -> None:
    controls, shown = Controls(), picture(server("m", role=role))
    assert press(controls, shown, "e") is None
    assert controls.questions == []
    assert why in controls.messages[-1].text


def test_a_model_without_a_server_is_not_evicted() -> None:
    controls, shown = Controls(), picture()
    know(shown, [pb.Model(model="m")])
    assert press(controls, shown, "e") is None
    assert controls.messages[-1].text == "m has no server"


@pytest.mark.parametrize("key", ["E", "e", "p", "l", "d"])
def test_an_orphan_cannot_be_acted_on(key: str) -> None:
    controls = Controls()
    shown = picture(server("", role=pb.SERVER_ROLE_ORPHAN))
    assert press(controls, shown, key) is None
    assert controls.mode is Mode.TABLE
    assert "orphan" in controls.messages[-1].text


@pytest.mark.parametrize("key", ["E", "e", "p", "l", "d", "up", "end"])
def test_without_rows_a_key_does_nothing(key: str) -> None:
    controls = Controls()
    assert press(controls, picture(), key) is None
    assert controls.mode is Mode.TABLE


@pytest.mark.parametrize(
    ("key", "mode", "back"),
    [
        ("?", Mode.HELP, LookAtChoice()),
        ("l", Mode.LOG, CloseLog()),
        ("d", Mode.DESCRIPTION, LookAtChoice()),
    ],
)
@pytest.mark.parametrize("leave", ["q", "escape"])
def test_q_and_escape_go_back_to_the_table(key: str, mode: Mode, back: Action, leave: str) -> None:
    controls, shown = Controls(), picture(server("m"))
    press(controls, shown, key)
    assert controls.mode is mode
    assert press(controls, shown, leave) == back
    assert controls.mode is Mode.TABLE


def test_the_last_three_messages_stay_until_escape_takes_them_away() -> None:
    clock = Clock()
    controls, shown = Controls(clock=clock), picture()
    know(shown, [pb.Model(model=name) for name in "abcd"])
    for _ in "abcd":
        press(controls, shown, "e", "e", "down")
    assert [one.text for one in controls.messages] == [f"{name} has no server" for name in "bcd"]
    assert controls.messages[-1].at == clock.now - timedelta(seconds=0.5)
    press(controls, shown, "escape")
    assert controls.messages == []
