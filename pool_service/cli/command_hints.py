"""Hints for unknown commands: misspelt ones, and the words of other programs."""

import difflib
from collections.abc import Iterable

SYNONYMS = {
    "ps": "list",
    "ls": "list",
    "status": "list",
    "load": "ensure",
    "up": "ensure",
    "chat": "run",
    "unload": "evict",
    "kill": "evict",
    "down": "evict",
    "rm": "evict",
    "download": "pull",
    "log": "logs",
    "tail": "logs",
}
"""The command here for each word of Ollama, LM Studio, llama-swap and Docker."""

_SYNONYM_NOTES = {
    "rm": ", which keeps the model's files; remove those yourself, or with the Hugging Face CLI",
}


def command_hint(word: str, commands: Iterable[str]) -> str:
    """Return a sentence that names the right command for an unknown one; empty if none is near."""
    if word in SYNONYMS:
        return f"Here it is `pool-service {SYNONYMS[word]}`{_SYNONYM_NOTES.get(word, '')}."
    near = difflib.get_close_matches(word, list(commands), n=1)
    return f"Did you mean `pool-service {near[0]}`?" if near else ""
