"""Keeps a conversation as the messages of a chat completion."""

from dataclasses import dataclass, field

from pool_service.cli.completions import Message


@dataclass(slots=True)
class Conversation:
    """Questions and answers in turn.

    system: what the model is told before all else; empty: nothing.
    """

    system: str = ""
    _said: list[Message] = field(default_factory=list)

    def asking(self, question: str) -> list[Message]:
        """Return the messages that ask `question` after all that was said."""
        return [*_messages("system", self.system), *self._said, *_messages("user", question)]

    def add(self, question: str, answer: str) -> None:
        """Keep a question with its answer, or as much of that as came; none without an answer."""
        if answer:
            self._said += _messages("user", question) + _messages("assistant", answer)

    def clear(self) -> None:
        """Forget all questions and answers."""
        self._said.clear()


def _messages(role: str, content: str) -> list[Message]:
    return [{"role": role, "content": content}] if content else []
