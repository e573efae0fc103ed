"""Names of models: which are valid, which are similar, and how files are named after them.

The functions `..._flaw` return what is wrong with a name, to be put after the name of the field
("model begins with ..."), or None.
"""

import functools
import hashlib
import re
import unicodedata
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import islice

RUNTIME_PREFIX = "vllm-mlx/"
"""The prefix by which a caller may name the runtime along with the model."""

MAX_MODEL_BYTES = 512
MAX_RUNTIME_MODEL_BYTES = 4096
MAX_HOLDER_BYTES = 128

# The characters of Hugging Face ids, tags and local paths. Other letters are not allowed since
# many look like these; a directory whose name has them can be given as the runtime model.
MODEL_NAME = re.compile(r"[A-Za-z0-9/_.~][A-Za-z0-9/_.~ @:+=,#%-]*")

# Unicode categories of invisible characters: control, format (such as marks that reverse the
# direction of text), surrogates, private use, line and paragraph separators.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def model_flaw(value: str) -> str | None:
    """Return what is wrong with the name of a model, or None."""
    if len(value) > MAX_MODEL_BYTES:
        return _text_flaw(value, MAX_MODEL_BYTES)
    return _flaw_of_short_name(value)


# Of short names only, so that what callers send takes little memory.
@functools.lru_cache(maxsize=1024)
def _flaw_of_short_name(value: str) -> str | None:
    if MODEL_NAME.fullmatch(value) is None:
        others = "may have only ASCII letters, digits and / _ . ~ @ : + = , # % - space"
        return _text_flaw(value, MAX_MODEL_BYTES) or others
    if value.endswith(" "):
        return "begins or ends with white space"
    loaded = value.removeprefix(RUNTIME_PREFIX)
    if not loaded or loaded.startswith("-"):
        return f"must name a model behind {RUNTIME_PREFIX}, not an option"
    if "://" in value or ".." in value.split("/"):
        return "must be a name, not a URL or a path with '..'"
    return None


def runtime_model_flaw(value: str) -> str | None:
    """Return what is wrong with the name of a runtime model, or None."""
    return _text_flaw(value, MAX_RUNTIME_MODEL_BYTES)


def holder_flaw(value: str) -> str | None:
    """Return what is wrong with the label of a holder, or None."""
    return _text_flaw(value, MAX_HOLDER_BYTES)


def _text_flaw(value: str, longest: int) -> str | None:
    if not value:
        return "is required"
    # Checked before the length, since a surrogate cannot be encoded in UTF-8.
    if any(unicodedata.category(char) in INVISIBLE for char in value):
        return "has control or invisible characters"
    if len(value.encode()) > longest:
        return f"is longer than {longest} bytes"
    if value != value.strip():
        return "begins or ends with white space"
    if value.startswith("-"):
        return "begins with '-' and so looks like an option"
    return None


MAX_SUGGESTIONS = 3

MIN_LIKENESS = 0.75
"""The similarity ratio, 0 to 1, from which a name is suggested. A name with one of six letters
wrong, missing or added reaches it; one that only begins alike does not."""

MAX_COMPARED = 256
"""The number of names to compare with: one of about the same length takes ten microseconds."""


def similar(name: str, known: Iterable[str]) -> tuple[str, ...]:
    """Return at most MAX_SUGGESTIONS names similar to `name`, the most similar first.

    `name` itself is not among them. Case is ignored, and NAME is similar to ORG/NAME.
    """
    asked = name.lower()
    scores: dict[str, float] = {}
    for other in islice(dict.fromkeys(known), MAX_COMPARED):
        if other != name:
            lower = other.lower()
            tails = (asked.rpartition("/")[2], lower.rpartition("/")[2])
            scores[other] = max(_likeness(asked, lower), _likeness(*tails))
    near = [other for other in scores if scores[other] >= MIN_LIKENESS]
    return tuple(sorted(near, key=lambda other: -scores[other])[:MAX_SUGGESTIONS])


def did_you_mean(names: Iterable[str]) -> str:
    """Return " Did you mean ...?" with these names, or "" if there are none."""
    quoted = [repr(name) for name in names]
    if not quoted:
        return ""
    *first, last = quoted
    return f" Did you mean {', '.join(first)} or {last}?" if first else f" Did you mean {last}?"


def _likeness(a: str, b: str) -> float:
    matcher = SequenceMatcher(None, a, b, autojunk=False)
    # Both are upper bounds of the ratio, and much cheaper.
    if matcher.real_quick_ratio() < MIN_LIKENESS or matcher.quick_ratio() < MIN_LIKENESS:
        return 0.0
    return matcher.ratio()


@functools.lru_cache(maxsize=4096)
def slug(model: str) -> str:
    """Return a file name for a model: readable, short, and unique by a hash of the model."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", model).strip(".-")[:60]
    return f"{readable}-{hashlib.sha256(model.encode()).hexdigest()[:10]}".lstrip("-")
