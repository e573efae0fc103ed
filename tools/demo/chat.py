"""Asks a model's server directly, as callers do once they have its endpoint."""

from collections.abc import Iterator

from pool_service.cli import chat_completions


def ask(endpoint: str, served_model_name: str, question: str, max_tokens: int = 24) -> str:
    """Return the whole answer to one question."""
    return "".join(stream(endpoint, served_model_name, question, max_tokens)).strip()


def stream(endpoint: str, served_model_name: str, question: str, max_tokens: int) -> Iterator[str]:
    """Yield the answer to one question piece by piece, the same each time.

    Raises:
        OSError: the server cannot be reached, refuses, or closes the stream before its end.
    """
    messages = [{"role": "user", "content": question}]
    return chat_completions.stream(
        endpoint, served_model_name, messages, max_tokens=max_tokens, temperature=0.0
    )
