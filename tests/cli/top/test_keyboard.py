"""Keys as terminals send them."""

import pytest

from pool_service.cli.top.keyboard import Keyboard


@pytest.mark.parametrize(
    ("sent", "keys"),
    [
        (b"e", ["e"]),
        (b"jk", ["down", "up"]),
        (b"\x1b[A\x1b[B", ["up", "down"]),
        (b"\x1bOA\x1bOB", ["up", "down"]),
        (b"\x1b[5~\x1b[6~ ", ["page up", "page down", "page down"]),
        (b"\x1b[H\x1b[1~g\x1b[F\x1b[4~G", ["home", "home", "home", "end", "end", "end"]),
        (b"\r\n", ["\n", "\n"]),
        (b"\x1b", ["escape"]),
        (b"\x1bq", ["escape", "q"]),
    ],
)
def test_each_key_is_known_by_what_a_terminal_sends_for_it(sent: bytes, keys: list[str]) -> None:
    assert Keyboard().read(sent) == keys


def test_a_sequence_that_comes_in_pieces_is_one_key() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"j\x1b[") == ["down"]
    assert keyboard.read(b"6") == []
    assert keyboard.read(b"~q") == ["page down", "q"]


def test_a_sequence_without_a_meaning_is_no_key() -> None:
    """Such as F5, whose letters and digits would otherwise be keys of their own."""
    assert Keyboard().read(b"\x1b[15~\x1b[1;5Cq") == ["q"]
