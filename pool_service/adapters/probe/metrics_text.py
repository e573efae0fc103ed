"""Sums of metrics in a server's answer, in Prometheus's text format or JSON. Pure.

Prometheus_client's parser is not used: importing it takes 22 ms and 4 MB, and it rejects a whole
answer for one bad line, while only a few named lines are needed here. The tests compare this parser
with that library's output.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|$)')
_LABELS = r'\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\}'
# No two adjacent parts may match the same blanks: a line of blanks would take quadratic time, and
# a running match blocks all threads of the service.
_SAMPLE = re.compile(rf"\s*({_NAME})(?:\s*{_LABELS})?\s+(\S+)(?:\s+-?\d+)?\s*")
_SELECTOR = re.compile(rf"({_NAME})(?:{_LABELS})?")
_TYPE = re.compile(rf"#\s*TYPE\s+({_NAME})\s")
_ESCAPES = {"n": "\n", "\\": "\\", '"': '"'}


def is_selector(text: str) -> bool:
    """Return whether a text is a valid selector: a metric, maybe with labels, or a JSON pointer."""
    if text.startswith("/"):
        return re.search(r"~(?![01])", text) is None
    match = _SELECTOR.fullmatch(text)
    return match is not None and (match[2] is None or _labels(match[2]) is not None)


def total(body: bytes, selectors: Sequence[str]) -> float | None:
    """Return the sum of the selected numbers; None if one is missing or not a valid number.

    A metric that is declared but has no series yet is 0. NaN and negative numbers are not valid;
    a number that is too large for a float is infinite.
    """
    text = body.decode("utf-8", "replace")
    find = _values_in_json if selectors and selectors[0].startswith("/") else _values_in_samples
    values = find(text, selectors)
    # In this form the comparison also refuses NaN.
    if values is None or not all(value >= 0 for value in values):
        return None
    try:
        return math.fsum(values)
    except OverflowError:
        return math.inf


# --- Prometheus ----------------------------------------------------------------------------


def _values_in_samples(text: str, selectors: Sequence[str]) -> list[float] | None:
    """Return the values of the selected metrics; None if one is missing or malformed."""
    values: list[float] = []
    for selector in selectors:
        match = _SELECTOR.fullmatch(selector)
        if match is None:
            return None
        found = _series(text, match[1], _labels(match[2] or "") or {})
        if found is None:
            return None
        values += found
    return values


def _series(text: str, name: str, wanted: Mapping[str, str]) -> list[float] | None:
    """Return the values of a metric's series with these labels; None if there is no such metric."""
    values: list[float] = []
    announced = False
    for line in _lines_with(text, name):
        kind = _TYPE.match(line)
        if kind is not None:
            # A counter may be declared without its suffix.
            announced |= kind[1] in (name, name.removesuffix("_total"))
            continue
        sample = _SAMPLE.fullmatch(line)
        if sample is None or sample[1] != name:
            continue
        announced = True
        labels = _labels(sample[2] or "")
        if labels is None:
            return None
        if wanted.items() <= labels.items():
            values.append(_number(sample[3]))
    return values if announced else None


def _lines_with(text: str, name: str) -> Iterator[str]:
    """Yield the sample and TYPE lines that may be of this metric."""
    base = name.removesuffix("_total")
    for line in text.split("\n"):
        if base in line and not line.lstrip().startswith("# HELP"):
            yield line


def _labels(text: str) -> dict[str, str] | None:
    """Parse the labels between the braces; return None if they are malformed."""
    labels: dict[str, str] = {}
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None:
            return None
        labels[match[1]] = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), match[2])
        at = match.end()
    return labels


def _number(word: str) -> float:
    """Parse a number of the format; return NaN if it is not one."""
    try:
        return math.nan if "_" in word else float(word)
    except ValueError:
        return math.nan


# --- JSON ----------------------------------------------------------------------------------


def _values_in_json(text: str, selectors: Sequence[str]) -> list[float] | None:
    """Return the numbers at the JSON pointers; None if one is missing."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    values = [as_number(_at(document, pointer)) for pointer in selectors]
    return [value for value in values if value is not None] if None not in values else None


def _at(value: object, pointer: str) -> object:
    """Return the value at a JSON pointer (RFC 6901); None if there is none."""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit():
            value = value[int(key)] if int(key) < len(value) else None
        else:
            return None
    return value


def as_number(value: object) -> float | None:
    """Return a JSON number as a float, infinite if too large; None if the value is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    return None if math.isnan(number) else number
