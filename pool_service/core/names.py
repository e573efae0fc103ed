"""Names of models: which are valid, which are similar, and how files are named after them.

Each `*_flaw` returns what is wrong with a name, to stand after what it is the
name of ("model begins with ..."), or None.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice

RUNTIME_PREFIX = "vllm-mlx/"
"""What a caller may put before the name of a model, to say by which runtime it is served."""


MODEL_BYTES = 512
RUNTIME_MODEL_BYTES = 4096
HOLDER_BYTES = 128

# What Hugging Face ids, tags and local paths consist of. Other letters are left out since
# many look like these; a directory whose name has them can be named as the runtime model.
MODEL_NAME = re.compile(r"[A-Za-z0-9/_.~][A-Za-z0-9/_.~ @:+=,#%-]*")

# Unicode categories of what does not show: control, format (among them the marks that turn
# the direction of writing), surrogates, private use, line and paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def model_flaw(value: str) -> str | None:
    """What is wrong with the name of a model."""
    if len(value) > MODEL_BYTES or MODEL_NAME.fullmatch(value) is None:
        others = "may have only ASCII letters, digits and / _ . ~ @ : + = , # % - space"
        return _text_flaw(value, MODEL_BYTES) or others
    if value.endswith(" "):
        return "begins or ends with white space"
    loaded = value.removeprefix(RUNTIME_PREFIX)
    if not loaded or loaded.startswith("-"):
        return f"must name a model behind {RUNTIME_PREFIX}, not an option"
    if "://" in value or ".." in value.split("/"):
        return "must be a name, not a URL or a path with '..'"
    return None


def runtime_model_flaw(value: str) -> str | None:
    """What is wrong with the name of what a runtime is asked to load."""
    return _text_flaw(value, RUNTIME_MODEL_BYTES)


def holder_flaw(value: str) -> str | None:
    """What is wrong with the label of who holds a server."""
    return _text_flaw(value, HOLDER_BYTES)


def _text_flaw(value: str, longest: int) -> str | None:
    if not value:
        return "is required"
    # Before the length: a surrogate has no bytes in UTF-8.
    if any(unicodedata.category(char) in INVISIBLE for char in value):
        return "has control or invisible characters"
    if len(value.encode()) > longest:
        return f"is longer than {longest} bytes"
    if value != value.strip():
        return "begins or ends with white space"
    if value.startswith("-"):
        return "begins with '-' and so looks like an option"
    return None


MOST_MEANT = 3
NEAR = 0.75
"""Of 1. One wrong, missing or further letter in six is nearer; what only begins alike is not."""

MOST_COMPARED = 256
"""Names; each that has about the right length takes some ten microseconds."""


def similar(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return the names that are nearest to `name`, the nearest first, without `name` itself.

    Capitals make no difference, and the last part (of ORG/NAME) may be written alone.
    """
    asked = name.lower()
    scores: dict[str, float] = {}
    for other in islice(dict.fromkeys(known), MOST_COMPARED):
        if other != name:
            lower = other.lower()
            tails = (asked.rpartition("/")[2], lower.rpartition("/")[2])
            scores[other] = max(_likeness(asked, lower), _likeness(*tails))
    near = [other for other in scores if scores[other] >= NEAR]
    return tuple(sorted(near, key=lambda other: -scores[other])[:MOST_MEANT])


def did_you_mean(names: Iterable[str]) -> str:
    """Return a question, with a space before it, that offers these names; nothing for none."""
    quoted = [repr(name) for name in names]
    if not quoted:
        return ""
    *first, last = quoted
    return f" Did you mean {', '.join(first)} or {last}?" if first else f" Did you mean {last}?"


def _likeness(a: str, b: str) -> float:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    if matcher.real_quick_ratio() < NEAR or matcher.quick_ratio() < NEAR:
        return 0.0
    return matcher.ratio()


def slug(model: str) -> str:
    """Return a name for a model that is safe as a file's, short, and no other model's."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip(".-")[:60]
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:10]}".lstrip("-")
