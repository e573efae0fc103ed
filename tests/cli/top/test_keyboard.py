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
        (b"\x1b\x1b[A", ["up"]),
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


@pytest.mark.parametrize(
    "sent", [b"\x1b[[A", b"\x1b[[E", b"\x1bOP", b"\x1b[24~", b"\x1be", b"\x1bE"]
)
def test_no_function_key_and_no_letter_typed_with_alt_is_a_key(sent: bytes) -> None:
    assert Keyboard().read(sent + b"q") == ["q"]


def test_an_escape_alone_is_one_once_nothing_has_followed_it() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"j\x1b") == ["down"]
    assert [keyboard.is_waiting, keyboard.flush(), keyboard.is_waiting] == [True, ["escape"], False]
    assert keyboard.read(b"q") == ["q"]


def test_an_arrow_that_comes_in_two_pieces_is_no_escape() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"\x1b") == []
    assert keyboard.read(b"[A") == ["up"]
    assert not keyboard.is_waiting
    assert keyboard.flush() == []


def test_a_sequence_that_stays_without_its_end_is_no_key() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"\x1b[1") == []
    assert keyboard.flush() == []
    assert keyboard.read(b"\x1b[1\x1b[B") == ["down"]


def test_what_is_pasted_is_no_key_however_it_comes() -> None:
    sent = b"j\x1b[200~key\x1b\r\x1b[A\x1b[20\x1b[201~q"
    for size in range(1, len(sent) + 1):
        keyboard = Keyboard()
        parts = [sent[place : place + size] for place in range(0, len(sent), size)]
        assert [key for part in parts for key in keyboard.read(part)] == ["down", "q"]


def test_a_paste_that_pauses_is_no_escape() -> None:
    keyboard = Keyboard()
    assert keyboard.read(b"\x1b[200~e\x1b") == []
    assert not keyboard.is_waiting
    assert keyboard.flush() == []
    assert keyboard.read(b"[201~q") == ["q"]
