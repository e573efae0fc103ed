"""The few things that a fleet asks of etcd."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc
from google.protobuf.message import Message

from pool_service.fleet.engines.etcd import etcd_pb2
from pool_service.fleet.engines.etcd.endpoints import Access, Endpoints
from pool_service.fleet.engines.etcd.errors import EtcdError, EtcdUnreachable, WatchEnded

_News = etcd_pb2.WatchResponse | etcd_pb2.RangeResponse


@dataclass(frozen=True, slots=True)
class Span:
    """A key, or all keys from `first` to before `end`."""

    first: bytes
    end: bytes = b""

    @classmethod
    def under(cls, prefix: str) -> "Span":
        """Return the keys that begin with a prefix that ends in an ASCII character."""
        raw = prefix.encode()
        return cls(raw, raw[:-1] + bytes((raw[-1] + 1,)))


@dataclass(frozen=True, slots=True)
class Lease:
    ident: int
    ttl_s: float
    """As granted: etcd grants no less than one and a half of its own elections take."""


class EtcdClient:
    """Asks etcd; each method raises EtcdError."""

    def __init__(self, access: Access) -> None:
        self._endpoints = Endpoints(access)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._endpoints.close()

    async def read(self, span: Span) -> etcd_pb2.RangeResponse:
        """Return the keys of a span, as a majority of etcd's members has them now."""
        request = etcd_pb2.RangeRequest(key=span.first, range_end=span.end)
        return await self._endpoints.call("/etcdserverpb.KV/Range", request, etcd_pb2.RangeResponse)

    async def create(self, key: bytes, value: bytes, lease: int) -> etcd_pb2.KeyValue:
        """Create a key unless it is there; return it as it is then."""
        absent = etcd_pb2.Compare(
            result=etcd_pb2.Compare.EQUAL,
            target=etcd_pb2.Compare.CREATE,
            key=key,
            create_revision=0,
        )
        put = etcd_pb2.RequestOp(request_put=etcd_pb2.PutRequest(key=key, value=value, lease=lease))
        get = etcd_pb2.RequestOp(request_range=etcd_pb2.RangeRequest(key=key))
        request = etcd_pb2.TxnRequest(compare=[absent], success=[put], failure=[get])
        answer = await self._endpoints.call("/etcdserverpb.KV/Txn", request, etcd_pb2.TxnResponse)
        if answer.succeeded:
            return etcd_pb2.KeyValue(
                key=key, value=value, lease=lease, create_revision=answer.header.revision
            )
        return answer.responses[0].response_range.kvs[0]

    async def put(self, key: bytes, value: bytes, lease: int) -> None:
        """Set a key, which ends with the lease from now on."""
        request = etcd_pb2.PutRequest(key=key, value=value, lease=lease)
        await self._endpoints.call("/etcdserverpb.KV/Put", request, etcd_pb2.PutResponse)

    async def grant(self, ttl_s: int) -> Lease:
        """Begin a lease."""
        answer = await self._endpoints.call(
            "/etcdserverpb.Lease/LeaseGrant",
            etcd_pb2.LeaseGrantRequest(ttl_s=ttl_s),
            etcd_pb2.LeaseGrantResponse,
        )
        return Lease(answer.id, float(answer.ttl_s))

    async def keep_alive(self, lease: Lease) -> bool:
        """Renew a lease; return whether it is still there."""
        answer = await self._endpoints.exchange(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            etcd_pb2.LeaseKeepAliveRequest(id=lease.ident),
            etcd_pb2.LeaseKeepAliveResponse,
        )
        return answer.ttl_s > 0

    async def revoke(self, lease: Lease) -> None:
        """End a lease, and its keys with it."""
        await self._endpoints.call(
            "/etcdserverpb.Lease/LeaseRevoke",
            etcd_pb2.LeaseRevokeRequest(id=lease.ident),
            etcd_pb2.LeaseRevokeResponse,
        )

    async def follow(
        self, span: Span, check_s: float
    ) -> AsyncGenerator[Mapping[bytes, etcd_pb2.KeyValue]]:
        """Yield the keys of a span now, and again after each change.

        check_s: the interval at which etcd is asked for all keys while nothing changes.
        Raises EtcdError when events may have been missed: then the span has to be followed anew.
        """
        known = _Known(await self.read(span))
        yield dict(known.keys)
        async with aclosing(self._watch(span, known.revision + 1, check_s)) as told:
            async for news in told:
                if known.take(news, self._endpoints.current):
                    yield dict(known.keys)

    async def _watch(self, span: Span, revision: int, check_s: float) -> AsyncGenerator[_News]:
        """Yield the events of a span from a revision on, and all its keys in quiet times.

        Raises EtcdError in the end.
        """
        endpoint = self._endpoints.current
        create = etcd_pb2.WatchCreateRequest(
            key=span.first, range_end=span.end, start_revision=revision
        )
        request = etcd_pb2.WatchRequest(create_request=create)
        try:
            async with (
                self._endpoints.stream(
                    "/etcdserverpb.Watch/Watch", request, etcd_pb2.WatchResponse
                ) as stream,
                aclosing(self._messages(stream, span, endpoint, check_s)) as messages,
            ):
                async for message in messages:
                    yield message
        except grpc.aio.AioRpcError as error:
            self._endpoints.leave(endpoint)
            raise EtcdUnreachable({endpoint: error}) from error

    async def _messages(
        self,
        stream: grpc.aio.StreamStreamCall[Message, etcd_pb2.WatchResponse],
        span: Span,
        endpoint: str,
        check_s: float,
    ) -> AsyncGenerator[_News]:
        """Yield the messages of a watch, and what `read` returns while none comes."""
        while True:
            reading = asyncio.ensure_future(stream.read())
            try:
                while not (await asyncio.wait((reading,), timeout=check_s))[0]:
                    listing = await self.read(span)
                    if self._endpoints.current != endpoint:
                        raise WatchEnded(endpoint, "it did not answer other calls")
                    yield listing
                response = reading.result()
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
            if not isinstance(response, etcd_pb2.WatchResponse):
                raise WatchEnded(endpoint, "its stream is over")
            if response.canceled:
                raise WatchEnded(endpoint, response.cancel_reason or "compacted")
            yield response


class _Known:
    """The keys of a span, as etcd has told them.

    An etcd that has lost its data, or was restored, counts its revisions anew. A watch from a
    later revision on is told nothing there until the count has come so far, and no error: gRPC may
    even have opened it again by itself. So all keys count that are read in between.
    """

    def __init__(self, listing: etcd_pb2.RangeResponse) -> None:
        self.keys = _keys_of(listing)
        self.revision: int = listing.header.revision
        """Of the last listing: events up to it are in it."""

    def take(self, news: _News, endpoint: str) -> bool:
        """Return whether events, or a listing, change the keys. Raises WatchEnded."""
        if isinstance(news, etcd_pb2.WatchResponse):
            later = [one for one in news.events if one.kv.mod_revision > self.revision]
            for event in later:
                self._apply(event)
            return bool(later)
        if news.header.revision < self.revision:
            raise WatchEnded(endpoint, "it has lost data that it had")
        before, self.keys, self.revision = self.keys, _keys_of(news), news.header.revision
        return self.keys != before

    def _apply(self, event: etcd_pb2.Event) -> None:
        if event.type == etcd_pb2.Event.PUT:
            self.keys[event.kv.key] = event.kv
        else:
            self.keys.pop(event.kv.key, None)


def _keys_of(listing: etcd_pb2.RangeResponse) -> dict[bytes, etcd_pb2.KeyValue]:
    return {entry.key: entry for entry in listing.kvs}


async def revoke_for_a_while(client: EtcdClient, lease: Lease, limit_s: float) -> None:
    """End a lease if etcd answers within the limit; else it ends by itself."""
    try:
        async with asyncio.timeout(limit_s):
            await client.revoke(lease)
    except (EtcdError, TimeoutError):
        return
