"""Members from DNS."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping

import dns.asyncresolver
import dns.exception
import dns.name
import dns.resolver

from pool_service.fleet.engines.trouble import Trouble

LEAST_PAUSE_S, MOST_PAUSE_S = 1.0, 60.0
"""The bounds of the time between two queries, which is what the records live otherwise."""

RETRY_PAUSE_S = 2.0
"""The pause after a query that failed."""

QUERY_LIMIT_S = 5.0


class DnsMembership:
    """Asks DNS for the members, again when the records' time to live has passed.

    1. Without a port, `name` has SRV records (`_pool._tcp.fleet.example`). A member is named by its
       target, or by TARGET-PORT if the target occurs more than once. One record whose target is
       the root (".") says that there is no member, as RFC 2782 has it.
    2. With a port, `name` has A records, or if it has none AAAA records: a host with both would be
       two members. A member is named by its IP address, with "-" for ":", which no name has.

    A name that does not exist or has no such records is a failure, like a server that does not
    answer: nobody publishes a fleet in this way.
    """

    def __init__(
        self, name: str, port: int | None = None, resolver: dns.asyncresolver.Resolver | None = None
    ) -> None:
        """Prepare the queries. resolver: by default the one that the system is configured for."""
        self._name = name
        self._port = port
        self._resolver = resolver
        self._trouble = Trouble(f"asking DNS for the members of {name}")

    async def changes(self) -> AsyncIterator[Mapping[str, str]]:
        known: Mapping[str, str] | None = None
        while True:
            try:
                members, lives_s = await self._ask()
            except (dns.exception.DNSException, OSError) as error:
                self._trouble.met(type(error).__name__, str(error))
                await asyncio.sleep(RETRY_PAUSE_S)
                continue
            self._trouble.over()
            if members != known:
                known = members
                yield members
            await asyncio.sleep(min(max(lives_s, LEAST_PAUSE_S), MOST_PAUSE_S))

    async def _ask(self) -> tuple[Mapping[str, str], float]:
        """Return the members, and for how many seconds they may be taken for granted."""
        resolver = self._resolver or dns.asyncresolver.Resolver()
        if self._port is None:
            answer = await resolver.resolve(self._name, "SRV", lifetime=QUERY_LIMIT_S)
            return _services(answer), _ttl(answer)
        answer = await self._addresses(resolver)
        hosts = sorted(record.address for record in answer)
        return {_name(host): _joined(host, self._port) for host in hosts}, _ttl(answer)

    async def _addresses(self, resolver: dns.asyncresolver.Resolver) -> dns.resolver.Answer:
        """Return the A records, or if there are none the AAAA records."""
        try:
            return await resolver.resolve(self._name, "A", lifetime=QUERY_LIMIT_S)
        except dns.resolver.NoAnswer:
            return await resolver.resolve(self._name, "AAAA", lifetime=QUERY_LIMIT_S)


def _services(answer: dns.resolver.Answer) -> dict[str, str]:
    found = sorted(
        (record.target.to_text(omit_final_dot=True), record.port)
        for record in answer
        if record.target != dns.name.root
    )
    times = Counter(host for host, _ in found)
    return {
        host if times[host] == 1 else f"{host}-{port}": _joined(host, port) for host, port in found
    }


def _ttl(answer: dns.resolver.Answer) -> float:
    """Return the least time to live of the records and of the aliases that led to them."""
    return float(answer.chaining_result.minimum_ttl)


def _name(address: str) -> str:
    """Return the name of the member at an IP address; it begins with a digit or a letter."""
    name = address.replace(":", "-")
    return f"0{name}" if name.startswith("-") else name


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
