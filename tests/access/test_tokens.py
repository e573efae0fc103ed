"""The form of tokens, and how they are found in a header."""

import hashlib

import pytest

from pool_service.access import tokens


def test_a_new_token_has_the_form_and_is_another_one_each_time() -> None:
    made = {tokens.new_token() for _ in range(100)}
    assert len(made) == 100
    for token in made:
        assert tokens.digest(token) == hashlib.sha256(token.encode()).digest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pst_",
        "pst_" + "a" * 42,
        "pst_" + "a" * 44,
        "PST_" + "a" * 43,
        "pst_" + "a" * 42 + "\n",
        "pst_" + "a" * 43 + "\n",
        "pst_" + "é" * 43,
        "x" * 1_000_000,
    ],
)
def test_what_has_no_tokens_form_has_no_digest(text: str) -> None:
    assert tokens.digest(text) is None


@pytest.mark.parametrize(
    ("value", "token"),
    [
        ("Bearer pst_x", "pst_x"),
        ("bearer pst_x", "pst_x"),
        ("BEARER  pst_x ", "pst_x"),
        ("Bearer", None),
        ("Basic pst_x", None),
        ("pst_x", None),
        ("", None),
    ],
)
def test_a_token_is_taken_from_a_bearer_header_only(value: str, token: str | None) -> None:
    assert tokens.of_authorization(value) == token
