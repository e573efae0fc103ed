"""The form of the file of tokens: what is written comes back, and what is not of it is refused."""

import json
import math
from typing import Any

import pytest

from pool_service.access.clients import Client
from pool_service.access.principal import CallerLimits, ModelPatterns, Principal, Scope
from pool_service.access.token_records import (
    TokenFileInvalid,
    TokenRecord,
    content_of,
    records_of,
)

DIGEST = bytes(range(32))
ENGINE = TokenRecord(
    Client(
        Principal(
            "engine.1",
            Scope.USE,
            logs=True,
            models=ModelPatterns(("chat", "team-*")),
            limits=CallerLimits(1, 2, 3, 4),
        ),
        DIGEST,
        expires_at=2000.5,
    ),
    1000.5,
)
READER = TokenRecord(Client(Principal("reader", Scope.READ), bytes(32)), 1.0)


def written(*records: TokenRecord) -> Any:  # noqa: ANN401  # what JSON makes of it
    return json.loads(json.dumps(content_of(records)))


def test_what_is_written_comes_back() -> None:
    assert records_of(written(ENGINE, READER)) == (ENGINE, READER)
    assert records_of(written()) == ()
    (reader,) = records_of(written(READER))
    assert reader.client.expires_at == math.inf


def test_a_token_without_an_end_has_none_in_the_file() -> None:
    assert written(READER)["clients"][0]["expires"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 2}, "version 1"),
        ({"clients": {}}, "no list"),
        ({"clients": ["x"]}, "cannot be read"),
    ],
)
def test_another_form_of_the_whole_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(TokenFileInvalid, match=told):
        records_of(written(READER) | change)


@pytest.mark.parametrize("content", [None, [], "x", 1])
def test_what_is_no_object_is_refused(content: object) -> None:
    with pytest.raises(TokenFileInvalid):
        records_of(content)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "a b"},
        {"name": ""},
        {"name": 1},
        {"token_sha256": "A" * 64},
        {"token_sha256": "a" * 63},
        {"token_sha256": None},
        {"scope": "root"},
        {"scope": 3},
        {"logs": 1},
        {"models": "*"},
        {"models": [1]},
        {"max_holds": -1},
        {"max_holds": True},
        {"starts_per_minute": 0.5},
        {"memory_share": 0},
        {"memory_share": 1.5},
        {"memory_share": True},
        {"memory_share": "50%"},
        {"expires": "soon"},
        {"expires": []},
        {"created": None},
    ],
    ids=str,
)
def test_a_client_that_cannot_be_read_makes_the_file_invalid(change: dict[str, Any]) -> None:
    content = written(READER, ENGINE)
    content["clients"][1] |= change
    with pytest.raises(TokenFileInvalid, match="cannot be read"):
        records_of(content)


@pytest.mark.parametrize("missing", ["name", "token_sha256", "scope", "logs", "models", "expires"])
def test_a_client_that_lacks_a_member_makes_the_file_invalid(missing: str) -> None:
    content = written(READER)
    del content["clients"][0][missing]
    with pytest.raises(TokenFileInvalid, match=f"has no '{missing}'"):
        records_of(content)


def test_limits_that_are_not_named_are_the_usual_ones() -> None:
    content = written(READER)
    for name in ("max_holds", "max_waiting", "max_streams", "starts_per_minute", "memory_share"):
        del content["clients"][0][name]
    assert records_of(content) == (READER,)


def test_two_clients_of_one_name_are_refused() -> None:
    with pytest.raises(TokenFileInvalid, match="same name"):
        records_of(written(READER, READER))
