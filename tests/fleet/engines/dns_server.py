"""A DNS server on loopback that answers from what a test sets."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Records = Mapping[tuple[str, str], Sequence[str]]
"""The records of each name and type."""


@dataclass
class DnsServer(asyncio.DatagramProtocol):
    """Answers each query.

    fails: how it answers all queries instead, if at all.
    asked: when queries came.
    """

    records: Records
    ttl_s: int = 1
    fails: dns.rcode.Rcode | None = None
    asked: list[float] = field(default_factory=list)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self.asked.append(time.monotonic())
        answer = dns.message.make_response(dns.message.from_wire(data))
        answer.flags |= dns.flags.AA
        question = answer.question[0]
        found = self.records.get(
            (question.name.to_text(), dns.rdatatype.to_text(question.rdtype)), ()
        )
        if self.fails is not None:
            answer.set_rcode(self.fails)
        elif found:
            rrset = dns.rrset.from_text(question.name, self.ttl_s, "IN", question.rdtype, *found)
            answer.answer.append(rrset)
        elif all(name != question.name.to_text() for name, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self._transport.sendto(answer.to_wire(), address)


@asynccontextmanager
async def serving(server: DnsServer) -> AsyncIterator[dns.asyncresolver.Resolver]:
    """Serve while the block runs; yield what asks the server."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: server, ("127.0.0.1", 0)
    )
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = transport.get_extra_info("sockname")[1]
    try:
        yield resolver
    finally:
        transport.close()
