"""Lead from the commands of similar programs to those of this one."""

import difflib
from collections.abc import Iterable

OTHER_WORDS = {
    "ps": "list",
    "ls": "list",
    "status": "list",
    "start": "ensure",
    "load": "ensure",
    "up": "ensure",
    "chat": "run",
    "stop": "evict",
    "unload": "evict",
    "kill": "evict",
    "down": "evict",
    "rm": "evict",
    "events": "watch",
    "download": "pull",
    "logs": "list --json",
    "log": "list --json",
}
"""Map the words of Ollama, LM Studio, llama-swap and Docker to the command here."""

_BECAUSE = {
    "rm": "; the files of a model are yours, or the Hugging Face cache's, to remove",
    "logs": ", whose log_path says where each server writes its log",
    "log": ", whose log_path says where each server writes its log",
}


def hint(word: str, commands: Iterable[str]) -> str:
    """Return a sentence that leads from an unknown command to the right one, or nothing."""
    if word in OTHER_WORDS:
        return f"Here it is `pool-service {OTHER_WORDS[word]}`{_BECAUSE.get(word, '')}."
    near = difflib.get_close_matches(word, list(commands), n=1)
    return f"Did you mean `pool-service {near[0]}`?" if near else ""
