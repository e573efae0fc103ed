"""Costs of a front's decisions, in steps of the interpreter: they do not grow with the fleet."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import CatalogueNames, Report
from tests.fleet.core.fronts import FITS, LOST_AFTER_S, NAME, Front, server

PART = "/pool_service/fleet/core/"
Act = Callable[[Front], object]


def fleet(hosts: int, *, doubled: int = 2) -> Front:
    """Return a front of hosts with ten models each; some of them have a copy that is in use."""
    front = Front(*(f"host{number}" for number in range(hosts)))
    for host in front.hosts:
        front.told(host, *(server(host, f"{host}/{number}") for number in range(10)))
    for number in range(doubled):
        front.changed(server("host1", f"host0/{number}", generation=2))
        front.feed(ev.EvictionEnded("host0", f"host0/{number}"))
    assert len(front.machine.hosts_of("host0/0")) == 2
    return front


def steps(front: Front, act: Act) -> int:
    """Return the steps of the front's core for an act, and for the question when time is due."""
    done = 0

    def count(frame: FrameType, event: str, _: Any) -> Any:  # noqa: ANN401 - by the event
        nonlocal done
        if PART not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        done += event == "opcode"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        act(front)
        front.machine.next_deadline()
    finally:
        sys.settrace(before)
    return done


def beat(front: Front) -> None:
    front.feed(ev.BeatAnswered("host1", Report(True, front.machine.epoch, NAME, 0.0)))


def change(front: Front) -> None:
    front.changed(server("host1", "host1/1", revision=2))


def names(front: Front) -> None:
    front.feed(ev.CatalogueTold("host1", CatalogueNames({"x": "host1/1"})))


def warm(front: Front) -> None:
    front.machine.at_once("host1/1")


def seat(front: Front) -> None:
    front.leave(front.ask("host1/1"))


def offers(front: Front) -> None:
    front.offer(host1=FITS, host2=FITS)


def told(front: Front) -> None:
    front.told("host1", *(server("host1", f"host1/{number}") for number in range(10)), revision=2)


def lost(front: Front) -> None:
    front.lose_sight("host2")
    front.pass_time(LOST_AFTER_S)


ACTS = (beat, change, names, warm, seat, offers, told, lost)


def prepared(front: Front, act: Act) -> Front:
    if act is offers:
        front.ask("new")
    return front


@pytest.mark.parametrize("act", ACTS)
def test_what_happens_at_one_member_costs_the_same_in_a_fleet_of_any_size(act: Act) -> None:
    small, large = (prepared(fleet(hosts), act) for hosts in (8, 64))
    assert steps(small, act) == steps(large, act)


@pytest.mark.parametrize("act", [beat, change, warm, seat])
def test_copies_in_use_are_not_looked_at_by_what_happens_elsewhere(act: Act) -> None:
    few, many = fleet(8, doubled=1), fleet(8, doubled=10)
    # A retry that is due is looked for among all; nothing is due here.
    assert steps(many, act) - steps(few, act) < 9 * 20
