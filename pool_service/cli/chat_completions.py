"""Chat completions: a client of the OpenAI API of a model's server, for `run`."""

import http.client
import json
import socket
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from pool_service.cli.interruption import shut_down_by_signals
from pool_service_client import Server

ANSWER_TIMEOUT_S: Final = 600.0
"""Time without data from the server: a small machine reads a long question for minutes."""

MAX_EVENT_BYTES: Final = 1024 * 1024
MAX_REFUSAL_BYTES: Final = 64 * 1024

Message = Mapping[str, str]
"""A message of a conversation: `role` (system, user or assistant) and `content`."""


class AnswerError(OSError):
    """The answer could not be had, or broke off."""


class ServerUnreachable(AnswerError):
    """The server accepts no connections; its model may have another server by now."""


class RequestRefused(AnswerError):
    """The server answered with an error."""


def stream(
    server: Server, messages: Sequence[Message], **options: object
) -> Generator[str, None, None]:
    """Yield the answer to a conversation piece by piece, as the server generates it.

    Closing the iterator closes the connection, and the server then stops generating. Only for
    the main thread, where a signal ends the wait for the next piece.

    Args:
        server: the server that `Ensure` or `Hold` returned.
        messages: the conversation; the last one is the question.
        options: further fields of the request, such as max_tokens.

    Raises:
        AnswerError: the server cannot be reached, refuses, or closes the stream before its end.
    """
    name = server.served_model_name
    body = {"model": name, "messages": [*messages], "stream": True, **options}
    url = urlsplit(server.endpoint)
    # http.client, since urllib would go through a proxy even to this machine.
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=ANSWER_TIMEOUT_S)
    with closing(connection):
        try:
            with (
                shut_down_by_signals(_connected(connection)),
                _send(connection, body, server.api_key) as response,
            ):
                _check_status(response)
                yield from _content(response)
        except AnswerError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise AnswerError(f"the answer broke off: {_reason_of(error)}") from error


def _connected(connection: http.client.HTTPConnection) -> socket.socket:
    """Connect, and return the connection's socket."""
    try:
        connection.connect()
    except OSError as error:
        why = _reason_of(error)
        raise ServerUnreachable(f"its server accepts no connection: {why}") from error
    return connection.sock


def _send(
    connection: http.client.HTTPConnection, body: Mapping[str, object], api_key: str
) -> http.client.HTTPResponse:
    """Send the request and return the response whose body is the answer."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    connection.request("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
    return connection.getresponse()


def _check_status(response: http.client.HTTPResponse) -> None:
    """Raise RequestRefused unless the status of a response is 200."""
    if response.status != http.client.OK:
        why = _refusal_reason(response.read(MAX_REFUSAL_BYTES))
        raise RequestRefused(f"its server answered {response.status}: {why or response.reason}")


def _content(response: http.client.HTTPResponse) -> Generator[str, None, None]:
    """Yield the text of a response's events, up to the final event."""
    while line := response.readline(MAX_EVENT_BYTES):
        # Between events come empty lines, and comments that keep a slow connection alive.
        if not line.startswith(b"data:"):
            continue
        data = line.removeprefix(b"data:").strip()
        if data == b"[DONE]":
            return
        if text := _text_of(data):
            yield text
    raise AnswerError("the answer broke off: connection closed")


def _text_of(data: bytes) -> str:
    """Return the text of an event, which may be empty; raise AnswerError for an error event."""
    try:
        event = json.loads(data)
        if error := event.get("error"):
            raise RequestRefused(f"its server gave up: {_message_of(error)}")
        choices = event.get("choices") or [{}]
        text = choices[0].get("delta", {}).get("content") or ""
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise AnswerError("its server sent an event that is no chat completion") from error
    return str(text)


def _refusal_reason(body: bytes) -> str:
    """Return the message of an OpenAI `error` or a FastAPI `detail`; empty if there is none."""
    try:
        content: Any = json.loads(body)
        return _message_of(content.get("error") or content.get("detail") or "")
    except (ValueError, AttributeError, RecursionError):
        return ""


def _message_of(error: object) -> str:
    return str(error.get("message") or error) if isinstance(error, dict) else str(error)


def _reason_of(error: Exception) -> str:
    text = str(error) if not isinstance(error, OSError) else error.strerror or str(error)
    return text or type(error).__name__
