"""Check that callers of the API get as far as their rights go, and no further.

Each try is made by the service's own user first, and does harm; so where an attacker's does none,
its rights are what stops it.
"""

from pathlib import Path

import pytest

from tests.attacks.attackers import ATTACKERS, CASES, LET_IN, NEEDS_ROOT, OWN_USER, Attacker, Way
from tests.attacks.tries import TRIES, Goal


async def make_try(way: Way, name: str) -> bool:
    """Make one try; return whether it did harm."""
    scene = way.scene
    scene.forget()
    for call in TRIES[name].calls:
        await scene.ask(way.channel, call, way.metadata)
    assert scene.answers or scene.errors, "it was made"
    return TRIES[name].did_harm(scene)


async def did_harm(attacker: Attacker, name: str, directory: Path) -> bool:
    """Make one try on a service of its own; return whether it did harm."""
    async with attacker.connect(directory) as way:
        return await make_try(way, name)


@pytest.mark.parametrize("name", TRIES)
async def test_each_try_does_harm_if_its_caller_may_make_it(name: str, socket_dir: Path) -> None:
    assert await did_harm(OWN_USER, name, socket_dir)


@pytest.mark.parametrize(("name", "goal"), CASES)
async def test_an_attacker_gets_no_further_than_its_rights_go(
    name: str, goal: Goal, socket_dir: Path
) -> None:
    attacker = ATTACKERS[name]
    tries = {one for one, attempt in TRIES.items() if attempt.goal is goal}
    async with attacker.connect(socket_dir) as way:
        # All of them on one service: none may open the way for another.
        harmful = [one for one in sorted(tries - attacker.may) if await make_try(way, one)]
    assert harmful == []
    for one in sorted(tries & attacker.may):
        assert await did_harm(attacker, one, socket_dir), one


@NEEDS_ROOT
@pytest.mark.parametrize("name", LET_IN)
async def test_another_user_does_harm_where_nothing_is_in_the_way(
    name: str, socket_dir: Path
) -> None:
    for one in ("start a listed model", "read a log", "evict all servers"):
        assert await did_harm(Attacker(LET_IN[name]), one, socket_dir)
