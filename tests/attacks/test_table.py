"""The table of attackers and goals has a test for each pair, and the tests are there."""

import re
from pathlib import Path

import pytest

from tests.attacks.tries import Goal

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/explanation/attacks.md"
SECTION = re.compile(r"^## (.*)$", re.MULTILINE)
ROW = re.compile(r"^\| (.+?) \| .+ \| (`.+`) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[^`:]+\.py)(?:::(\w+))?`")


def sections() -> dict[str, str]:
    _, *found = SECTION.split(PAGE.read_text())
    return dict(zip(found[::2], found[1::2], strict=True))


@pytest.mark.parametrize("attacker", sections())
def test_each_goal_of_an_attacker_has_a_test(attacker: str) -> None:
    rows = ROW.findall(sections()[attacker])
    assert [goal for goal, _ in rows] == [str(goal) for goal in Goal]
    assert all(TEST.search(tests) for _, tests in rows)


def test_each_test_is_there() -> None:
    named = set(TEST.findall(PAGE.read_text()))
    assert len(named) > 20
    missing = {
        (file, name)
        for file, name in named
        if not re.search(rf"\bdef {name}\(" if name else "", (ROOT / file).read_text())
    }
    assert missing == set()
