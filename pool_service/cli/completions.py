"""Ask a model's server for chat completions, as its callers do once they have its endpoint."""

import http.client
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

ANSWER_TIMEOUT_S: Final = 600.0
"""How long a server may write nothing: a long question is read for minutes on a small machine."""

LARGEST_EVENT_BYTES: Final = 1024 * 1024
LARGEST_REFUSAL_BYTES: Final = 64 * 1024

Message = Mapping[str, str]
"""A `role` (system, user or assistant) and its `content`."""


class AnswerError(OSError):
    """An answer that did not come, or did not come to its end."""


class NobodyListens(AnswerError):
    """The server does not accept connections (any more): its model may have another."""


class Refused(AnswerError):
    """The server answered with an error of its own."""


def stream(
    endpoint: str, served_model_name: str, messages: Sequence[Message], **options: object
) -> Generator[str, None, None]:
    """Yield the answer to a conversation piece by piece, as the server generates it.

    Closing the iterator closes the connection, at which the server stops generating.

    Args:
        endpoint: the base URL that `Ensure` or `Hold` returned.
        served_model_name: what the server calls its model.
        messages: the conversation; the last one is the question.
        options: further fields of the request, such as max_tokens.

    Raises:
        AnswerError: the server cannot be reached, refuses, or closes the stream before its end.
    """
    body = {"model": served_model_name, "messages": [*messages], "stream": True, **options}
    place = urlsplit(endpoint)
    # http.client, since urllib would ask a proxy for what is on this machine.
    connection = http.client.HTTPConnection(
        place.hostname or "", place.port, timeout=ANSWER_TIMEOUT_S
    )
    with closing(connection):
        try:
            with _asked(connection, body) as response:
                _check(response)
                yield from _content(response)
        except AnswerError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AnswerError(f"the answer broke off: {_words(error)}") from error


def _asked(
    connection: http.client.HTTPConnection, body: Mapping[str, object]
) -> http.client.HTTPResponse:
    """Send the request and return the response whose body is the answer."""
    try:
        connection.connect()
    except OSError as error:
        raise NobodyListens(f"its server accepts no connection: {_words(error)}") from error
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
    return connection.getresponse()


def _check(response: http.client.HTTPResponse) -> None:
    """Raise Refused if a response is no answer."""
    if response.status != http.client.OK:
        why = _refusal(response.read(LARGEST_REFUSAL_BYTES))
        raise Refused(f"its server answered {response.status}: {why or response.reason}")


def _content(response: http.client.HTTPResponse) -> Generator[str, None, None]:
    """Yield the text in the events of a response until the one that ends it."""
    while line := response.readline(LARGEST_EVENT_BYTES):
        # Between the events there are empty lines, and comments that keep a slow one alive.
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if text := _text_of(data):
            yield text
    raise AnswerError("the answer broke off: connection closed")


def _text_of(data: bytes) -> str:
    """Return what an event adds to the answer; raise what it says that went wrong."""
    try:
        event = json.loads(data)
        if error := event.get("error"):
            raise Refused(f"its server gave up: {_said(error)}")
        choices = event.get("choices") or [{}]
        text = choices[0].get("delta", {}).get("content") or ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AnswerError("its server answers with something else than text") from error
    return str(text)


def _refusal(body: bytes) -> str:
    """Return why a request was refused, of an OpenAI error or of a `detail` as FastAPI has it."""
    try:
        content: Any = json.loads(body)
        return _said(content.get("error") or content.get("detail") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""


def _said(error: object) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _words(error: Exception) -> str:
    text = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
    return text or type(error).__name__
