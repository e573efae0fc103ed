"""Claims about the tokens that are counted."""

import pytest

from pool_service.gateway.tokens import events_of, tokens_of


@pytest.mark.parametrize(
    ("end", "events", "tokens"),
    [
        (b'{"usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}}', 0, 5),
        (b'data: {"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n', 9, 7),
        (
            b'data: {"usage":{"completion_tokens":1}}\n\ndata: {"usage":{"completion_tokens":7}}',
            9,
            7,
        ),
        (b'event: message_delta\ndata: {"usage": {"output_tokens": 3}}\n\n', 5, 3),
        (b'data: {"usage": null}\n\ndata: [DONE]\n\n', 9, 9),
        (b'{"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9}}', 0, 0),
        (rb'{"content": "\"completion_tokens\": 1000"}', 2, 2),
        (b"", 0, 0),
    ],
)
def test_tokens_are_those_that_the_server_has_counted_or_else_events(
    end: bytes, events: int, tokens: int
) -> None:
    assert tokens_of(end, events) == tokens


def test_events_are_counted_but_for_comments_and_the_last_one() -> None:
    assert events_of(b': hello\n\ndata: {"a": 1}\n\ndata: {"a": 2}\n\ndata: [DONE]\n\n') == 2
    assert events_of(b"RIFF data") == 0
