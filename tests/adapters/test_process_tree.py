"""Claims about who is found to carry a nonce, with lists of processes that change meanwhile."""

from collections.abc import Callable, Iterator

import pytest

from pool_service.adapters.process import process_tree
from pool_service.adapters.process.process_tree import carriers
from pool_service.core.types import Identity

Look = Callable[..., dict[int, list[str | None]]]


def identity(pid: int) -> Identity:
    return Identity(pid, pid * 100, "boot")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Look:
    """Sets what each list of pids has, and what each pid tells by turns, the last for ever."""

    def has(*lists: list[int], **told: list[str | None]) -> dict[int, list[str | None]]:
        by_pid = {int(pid[1:]): list(answers) for pid, answers in told.items()}
        asked: dict[int, list[str | None]] = {pid: [] for pid in by_pid}
        listed: Iterator[list[int]] = iter(lists)

        def variable_of(pid: int, _name: str) -> str | None:
            left = by_pid[pid]
            asked[pid].append(left.pop(0) if len(left) > 1 else left[0])
            return asked[pid][-1]

        monkeypatch.setattr("psutil.pids", lambda: next(listed))
        monkeypatch.setattr(process_tree, "variable_of", variable_of)
        monkeypatch.setattr(process_tree, "identity_of", identity)
        monkeypatch.setattr(process_tree, "is_alive", lambda _identity: True)
        return asked

    return has


def test_one_that_is_just_becoming_another_program_is_asked_again(machine: Look) -> None:
    machine([7, 8], [7, 8], p7=[None, "n"], p8=[""])
    assert carriers({"n"}) == {"n": {identity(7)}}


def test_one_that_told_the_nonce_and_is_then_becoming_another_program_is_asked_again(
    machine: Look,
) -> None:
    machine([7], [7], p7=["n", None, "n"])
    assert carriers({"n"}) == {"n": {identity(7)}}


def test_one_whose_parent_ended_before_its_turn_is_found(machine: Look) -> None:
    machine([7], [8], p7=[None], p8=["n"])
    assert carriers({"n"}) == {"n": {identity(8)}}


def test_who_told_something_is_not_asked_again(machine: Look) -> None:
    asked = machine([7, 8, 9], [7, 8, 9], p7=[""], p8=["another"], p9=["n"])
    assert carriers({"n"}) == {"n": {identity(9)}}
    assert asked == {7: [""], 8: ["another"], 9: ["n", "n"]}


def test_one_that_told_the_nonce_and_is_another_by_now_is_not_taken(machine: Look) -> None:
    machine([7], [7], p7=["n", "", ""])
    assert carriers({"n"}) == {}
