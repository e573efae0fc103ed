"""The size of pages: what clients accept by default, whatever the number of entries."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from pool_service.v1 import pool_service_pb2 as pb

PAGE_BYTES = 1024 * 1024
"""The size at which a page of servers or models is full; clients accept 4 MiB by default."""

OnAPage = TypeVar("OnAPage", pb.Server, pb.Model)


def fitting(messages: Iterable[OnAPage]) -> Iterator[OnAPage]:
    """Yield the first messages, up to the one that fills a page."""
    left = PAGE_BYTES
    for message in messages:
        yield message
        left -= message.ByteSize()
        if left <= 0:
            return
