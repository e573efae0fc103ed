"""The few things that a fleet asks of an API server."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

from pool_service.fleet.engines.kubernetes.access import Access, Credentials
from pool_service.fleet.engines.kubernetes.errors import (
    Absent,
    Expired,
    KubernetesError,
    Outrun,
    Refused,
    Unreachable,
)

WATCH_S = 30.0
"""The time after which the API server is to end a watch, so that one that hangs is noticed."""

NEXT_WATCH_PAUSE_S = 0.1
"""The pause between two watches, for a server that ends each at once."""

REFUSALS: Mapping[int, type[Refused]] = {
    HTTPStatus.NOT_FOUND: Absent,
    HTTPStatus.CONFLICT: Outrun,
    HTTPStatus.GONE: Expired,
}

Object = Mapping[str, Any]
"""An object of the API, as JSON has it."""


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a watch. kind: ADDED, MODIFIED, DELETED or BOOKMARK."""

    kind: str
    object: Object

    @property
    def version(self) -> str:
        """The version of the collection after this change."""
        return str(self.object["metadata"]["resourceVersion"])

    @property
    def name(self) -> str:
        """The name of the object; a bookmark has none."""
        return str(self.object["metadata"]["name"])


class KubernetesClient:
    """Asks an API server; each method raises KubernetesError."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._credentials = Credentials(access)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the connections. A later call opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def get(self, path: str, **parameters: str) -> Object:
        """Return an object, or a list of them with the version of the collection."""
        return await self._call("GET", path, None, parameters)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection; return it as it is then. Raises Outrun, too."""
        return await self._call("POST", path, body, {})

    async def replace(self, path: str, body: Object) -> Object:
        """Replace the version of an object that `body` names; return it as it is then.

        Raises Outrun if it has another version by now, and Absent.
        """
        return await self._call("PUT", path, body, {})

    async def follow(
        self, path: str, watch_s: float = WATCH_S, **parameters: str
    ) -> AsyncGenerator[Mapping[str, Object]]:
        """Yield the objects of a collection by name, now and again after each change.

        watch_s: the length of one watch, and how long the API server may be silent. Raises
        KubernetesError when changes may have been missed: then the collection has to be followed
        anew.
        """
        listing = await self.get(path, **parameters)
        objects, version = self._listed(listing)
        yield dict(objects)
        while True:
            async with aclosing(self.watch(path, version, watch_s, **parameters)) as events:
                async for event in events:
                    version = event.version
                    if event.kind == "BOOKMARK":
                        continue
                    if event.kind == "DELETED":
                        objects.pop(event.name, None)
                    else:
                        objects[event.name] = event.object
                    yield dict(objects)
            await asyncio.sleep(NEXT_WATCH_PAUSE_S)

    async def watch(
        self, path: str, version: str, watch_s: float, **parameters: str
    ) -> AsyncGenerator[Event]:
        """Yield the changes of a collection since a version, for `watch_s` seconds.

        Raises Expired, too.
        """
        wanted = {
            **parameters,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, int(watch_s))),
        }
        limit = aiohttp.ClientTimeout(
            sock_connect=self._access.call_limit_s, sock_read=watch_s + self._access.call_limit_s
        )
        try:
            async with self._request("GET", path, None, wanted, limit) as response:
                await self._check(response)
                rest = b""
                async for piece in response.content.iter_any():
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in lines:
                        yield self._event(line)
                if rest:
                    raise Unreachable(self._access.server, "a watch ended within a change")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _call(
        self, method: str, path: str, body: Object | None, parameters: Mapping[str, str]
    ) -> Object:
        limit = aiohttp.ClientTimeout(total=self._access.call_limit_s)
        try:
            async with self._request(method, path, body, parameters, limit) as response:
                await self._check(response)
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise self._unreachable(error) from error
        if not isinstance(answer, dict):
            raise self._strange(answer)
        return answer

    def _request(
        self,
        method: str,
        path: str,
        body: Object | None,
        parameters: Mapping[str, str],
        limit: aiohttp.ClientTimeout,
    ) -> "aiohttp.client._RequestContextManager":
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session.request(
            method,
            self._access.server + path,
            params=parameters,
            json=body,
            headers=self._credentials.headers(),
            ssl=self._credentials.context(),
            timeout=limit,
            allow_redirects=False,
        )

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise Refused unless the API server does what was asked."""
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refused(response.status, await response.text(errors="replace"))

    def _listed(self, listing: Object) -> tuple[dict[str, Object], str]:
        """Return the objects of a list by name, and the version of the collection."""
        try:
            objects = {str(item["metadata"]["name"]): item for item in listing["items"]}
            return objects, str(listing["metadata"]["resourceVersion"])
        except (KeyError, TypeError) as error:
            raise self._strange(listing) from error

    def _event(self, line: bytes) -> Event:
        try:
            said = json.loads(line)
            event = Event(said["type"], said["object"])
            if event.kind != "ERROR":
                _ = event.version
                if event.kind != "BOOKMARK":
                    _ = event.name
                return event
            code = int(said["object"].get("code", HTTPStatus.INTERNAL_SERVER_ERROR))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._strange(line) from error
        raise self._refused(code, json.dumps(event.object))

    def _refused(self, status: int, said: str) -> Refused:
        try:
            reason = str(json.loads(said)["message"])
        except (ValueError, KeyError, TypeError):
            reason = said[:200] or "without a word"
        return REFUSALS.get(status, Refused)(self._access.server, status, reason)

    def _strange(self, said: object) -> KubernetesError:
        text = said.decode(errors="replace") if isinstance(said, bytes) else json.dumps(said)
        return Unreachable(self._access.server, f"it said {text[:200]!a}")

    def _unreachable(self, error: Exception) -> KubernetesError:
        if isinstance(error, TimeoutError):
            return Unreachable(self._access.server, "no answer in time")
        return Unreachable(self._access.server, str(error) or type(error).__name__)
