"""Types of sizes in bytes, and of shares of the machine's memory."""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import BeforeValidator, ByteSize, Field, PlainValidator, TypeAdapter

from pool_service.adapters.logs.logs import TAIL_BYTES
from pool_service.config.types import Form, number_of
from pool_service.core.types import FOREVER

SMALLEST_PROMPT_CACHE_BYTES = 16 * 1024 * 1024
"""A prompt of some hundred tokens of a small model."""
SMALLEST_MEMORY = 1024 * 1024
"""Bytes. A smaller value is a mistake, such as a number of gigabytes without its unit."""
LARGEST_SIZE = 2**60
"""Bytes: more than any machine has, and exact as a float."""
NO_LIMIT = "none"
HUNDRED_PERCENT = 100

_BYTE_SIZE = TypeAdapter(ByteSize)
# ByteSize alone ignores text after the unit, and takes "5%" for 5.
_SIZE = re.compile(r"\s*\d+(\.\d+)?\s*[A-Za-z]*\s*")
_SHARE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Share:
    """A share of the machine's memory in percent."""

    percent: float

    def of(self, total: int) -> int:
        """Return this share of `total` bytes, in bytes."""
        return int(total * self.percent / HUNDRED_PERCENT)


def size_as_written(size: float) -> str:
    """Return bytes as a user writes them: whole megabytes in decimal units, else binary ones."""
    return ByteSize(size).human_readable(decimal=not size % 1_000_000, separator=" ")


def _bytes(value: object) -> int:
    is_text = isinstance(value, str) and _SIZE.fullmatch(value)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not (is_text or is_number):
        raise ValueError
    return int(_BYTE_SIZE.validate_python(value))


def _amount(value: object) -> int | Share:
    match = _SHARE.fullmatch(value) if isinstance(value, str) else None
    amount = Share(float(match[1])) if match else _bytes(value)
    if isinstance(amount, Share):
        is_too_large = amount.percent > HUNDRED_PERCENT
    else:
        is_too_large = amount > LARGEST_SIZE
    if is_too_large:
        raise ValueError
    return amount


def _budget(value: object) -> float | Share:
    if value == NO_LIMIT:
        return FOREVER
    amount = _amount(value)
    if amount == Share(0) or (isinstance(amount, int) and amount < SMALLEST_MEMORY):
        raise ValueError
    return amount


def _reserve(value: object) -> int | Share:
    amount = _amount(value)
    if amount == Share(HUNDRED_PERCENT):
        raise ValueError
    return amount


def _prompt_cache(value: object) -> int:
    if value is False:
        return 0
    size = _bytes(value)
    if size < SMALLEST_PROMPT_CACHE_BYTES:
        raise ValueError
    return size


def _false_or_number(text: str) -> object:
    return False if text.lower() == "false" else number_of(text)


_LEAST = f"{SMALLEST_PROMPT_CACHE_BYTES // 1024**2} MiB"

LogBytes = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=TAIL_BYTES),
    Form("bytes", f'bytes, or text with a unit such as "16MiB" ({TAIL_BYTES} or more)', number_of),
]
PromptCacheBytes = Annotated[
    int,
    BeforeValidator(_prompt_cache),
    Field(le=LARGEST_SIZE),
    Form(
        "bytes, or false",
        f'bytes, or text with a unit such as "4 GiB" ({_LEAST} or more), or false',
        _false_or_number,
    ),
]
DiskBytes = Annotated[
    int,
    BeforeValidator(_bytes),
    Field(ge=SMALLEST_PROMPT_CACHE_BYTES, le=LARGEST_SIZE),
    Form("bytes", f'bytes, or text with a unit such as "20 GiB" ({_LEAST} or more)', number_of),
]
MemoryBytes = Annotated[
    Annotated[int, BeforeValidator(_bytes), Field(ge=SMALLEST_MEMORY, le=LARGEST_SIZE)] | None,
    Form("bytes", 'bytes, or text with a unit such as "24 GB" (1 MiB or more)', number_of),
]
Budget = Annotated[
    float | Share | None,
    PlainValidator(_budget),
    Form(
        "bytes, a share, or none",
        f'bytes (1 MiB or more), or text such as "24 GB", "80%" or "{NO_LIMIT}"',
        number_of,
    ),
]
Reserve = Annotated[
    int | Share | None,
    PlainValidator(_reserve),
    Form("bytes, or a share", 'bytes, or text such as "2 GiB" or "5%" (under 100%)', number_of),
]
