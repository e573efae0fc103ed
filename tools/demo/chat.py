"""Asks a model's server directly, as callers do once they have its endpoint."""

from collections.abc import Iterator

from pool_service.cli import chat_completions
from pool_service_client import Server


def ask(server: Server, question: str, max_tokens: int = 24) -> str:
    """Return the whole answer to one question."""
    return "".join(stream(server, question, max_tokens)).strip()


def stream(server: Server, question: str, max_tokens: int) -> Iterator[str]:
    """Yield the answer to one question piece by piece, the same each time.

    Raises:
        OSError: the server cannot be reached, refuses, or closes the stream before its end.
    """
    messages = [{"role": "user", "content": question}]
    return chat_completions.stream(server, messages, max_tokens=max_tokens, temperature=0.0)
