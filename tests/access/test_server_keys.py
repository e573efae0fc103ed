"""Keys of servers: their form, and how they are struck out of texts."""

import pytest

from pool_service.access.server_keys import (
    STRUCK,
    is_key,
    length_before_cut,
    new_key,
    strike,
)

KEY = "psk_" + ("Ab-9_" * 9)[:43]
"""A fixed one, since it is in the names of tests."""


def test_keys_differ_and_have_256_random_bits() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(map(is_key, keys))
    assert {len(key.removeprefix("psk_")) for key in keys} == {43}


@pytest.mark.parametrize("text", ["", KEY[:-1], f"{KEY}x", f"{KEY}\n", KEY.replace("psk", "pst")])
def test_what_has_not_the_form_of_a_key_is_none(text: str) -> None:
    assert not is_key(text)


@pytest.mark.parametrize(
    ("text", "struck"),
    [
        (f"key={KEY}", f"key={STRUCK}"),
        (f"'{KEY}' and {KEY}", f"'{STRUCK}' and {STRUCK}"),
        (f"cut {KEY[:30]}", f"cut {STRUCK}"),
        ("psk_short psk_ p", "psk_short psk_ p"),
    ],
    ids=["one", "two", "cut", "none"],
)
def test_each_key_in_a_text_is_struck(text: str, struck: str) -> None:
    assert strike(text) == struck


@pytest.mark.parametrize("shown", range(1, 47))
def test_bytes_that_end_within_a_key_end_before_it(shown: int) -> None:
    assert length_before_cut(b"line " + KEY[:shown].encode()) == len("line ")


@pytest.mark.parametrize("data", [b"", b"line", KEY.encode(), b"stop ps!"])
def test_bytes_that_do_not_end_within_a_key_are_kept(data: bytes) -> None:
    assert length_before_cut(data) == len(data)
