"""An API server of the tests: objects with versions, conflicts, watches and bookmarks.

The contract tests run against the real one, too (conftest.py), which keeps this one honest.
"""

import asyncio
import copy
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from pool_service.fleet.engines.kubernetes.access import Access
from tests.certificates import LOCAL, Authority

Rules = Sequence[Mapping[str, Any]]
"""The rules of a Role."""

FIRST_VERSION = 1000

COLLECTION_DEPTH = "/apis/GROUP/VERSION/namespaces/NAMESPACE/PLURAL".count("/")


class FakeApiServer:
    """Serves any collection at one port.

    tokens: those that it accepts. bookmarks: whether a watch that ends tells the version.
    nonsense: what it answers instead of anything else. expired: set once a watch was refused since
    its changes are forgotten.
    """

    def __init__(self, port: int, directory: Path, authority: Authority | None = None) -> None:
        """authority: it has TLS, and callers need a certificate of this authority."""
        self.port = port
        self.bookmarks = True
        self.nonsense = b""
        self.expired = asyncio.Event()
        self.ca = directory / "ca.pem"
        self._tls: ssl.SSLContext | None = None
        if authority is not None:
            self.ca.write_bytes(authority.certificate)
            self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca)
            self._tls.load_cert_chain(*authority.issue(*LOCAL).write(directory, "serving"))
            self._tls.verify_mode = ssl.CERT_REQUIRED
        self.token = directory / "token"
        self.token.write_text("first")
        self.tokens = {"first"}
        self._limited = directory / "limited-token"
        self._rules: Rules = ()
        self._objects: dict[str, dict[str, dict[str, Any]]] = {}
        self._version = FIRST_VERSION
        self._oldest = FIRST_VERSION
        self._changes: list[tuple[int, str, str, dict[str, Any]]] = []
        self._news = asyncio.Event()
        self._going = asyncio.Event()
        self._going.set()
        self._runner: web.AppRunner | None = None

    @property
    def access(self) -> Access:
        if self._tls is None:
            return Access(server=f"http://127.0.0.1:{self.port}", token=self.token)
        return Access(server=f"https://127.0.0.1:{self.port}", ca=self.ca, token=self.token)

    def access_with(self, rules: Rules) -> Access:
        """Return the access of a caller who has the rights of a Role alone."""
        self._rules = rules
        self._limited.write_text("limited")
        return replace(self.access, token=self._limited)

    async def start(self) -> None:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=self._tls
        )
        await site.start()

    async def kill(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def pause(self) -> None:
        self._going.clear()

    def resume(self) -> None:
        self._going.set()

    def forget_changes(self) -> None:
        """Keep no change for watches, as after a compaction of etcd."""
        self._oldest = self._version
        self._changes.clear()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        await self._going.wait()
        if self.nonsense:
            return web.Response(body=self.nonsense)
        said = request.headers.get("Authorization", "").removeprefix("Bearer ")
        path = f"/{request.match_info['path']}"
        if said == "limited" and not _may(self._rules, request.method, path, request.query):
            return _status(HTTPStatus.FORBIDDEN, "forbidden")
        if said not in {*self.tokens, "limited"}:
            return _status(HTTPStatus.UNAUTHORIZED, "Unauthorized")
        if request.query.get("watch") == "true":
            return await self._watch(request, path)
        body = await request.json() if request.can_read_body else {}
        return self._change(request.method, path, body, request.query)

    def _change(
        self, method: str, path: str, body: dict[str, Any], query: Mapping[str, str]
    ) -> web.Response:
        if method == "POST":
            return self._create(path, body)
        if path.count("/") == COLLECTION_DEPTH:
            return self._list(path, query)
        collection, _, name = path.rpartition("/")
        stored = self._objects.get(collection, {}).get(name)
        if method == "PUT":
            return self._replace(collection, name, stored, body)
        if stored is None:
            return _status(HTTPStatus.NOT_FOUND, f'"{name}" not found')
        if method == "GET":
            return web.json_response(stored)
        self._note(collection, "DELETED", self._objects[collection].pop(name))
        return web.json_response({"kind": "Status", "status": "Success"})

    def _create(self, collection: str, body: dict[str, Any]) -> web.Response:
        name = body["metadata"]["name"]
        objects = self._objects.setdefault(collection, {})
        if name in objects:
            return _status(HTTPStatus.CONFLICT, f'"{name}" already exists')
        objects[name] = copy.deepcopy(body)
        objects[name]["metadata"]["uid"] = f"uid-{self._version}"
        return web.json_response(self._note(collection, "ADDED", objects[name]), status=201)

    def _replace(
        self, collection: str, name: str, stored: dict[str, Any] | None, body: dict[str, Any]
    ) -> web.Response:
        if stored is None and "uid" not in body["metadata"]:
            return self._create(collection, body)
        if stored is None:
            return _status(HTTPStatus.CONFLICT, f'"{name}" is another object')
        if body["metadata"].get("resourceVersion") != stored["metadata"]["resourceVersion"]:
            return _status(HTTPStatus.CONFLICT, "the object has been modified")
        if body == stored:
            return web.json_response(stored)
        self._objects[collection][name] = copy.deepcopy(body)
        return web.json_response(
            self._note(collection, "MODIFIED", self._objects[collection][name])
        )

    def _list(self, collection: str, query: Mapping[str, str]) -> web.Response:
        items = [one for one in self._objects.get(collection, {}).values() if _fits(one, query)]
        metadata = {"resourceVersion": str(self._version)}
        return web.json_response({"metadata": metadata, "items": items})

    def _note(self, collection: str, kind: str, stored: dict[str, Any]) -> dict[str, Any]:
        """Give an object its next version, and tell watches."""
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)
        self._changes.append((self._version, collection, kind, copy.deepcopy(stored)))
        news, self._news = self._news, asyncio.Event()
        news.set()
        return stored

    async def _watch(self, request: web.Request, collection: str) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        version = int(request.query["resourceVersion"])
        if version < self._oldest:
            self.expired.set()
            await _write(response, "ERROR", _failure(HTTPStatus.GONE, "too old resource version"))
            return response
        try:
            async with asyncio.timeout(int(request.query["timeoutSeconds"])):
                while True:
                    news = self._news
                    await self._going.wait()
                    for at, where, kind, changed in list(self._changes):
                        if at > version and where == collection and _fits(changed, request.query):
                            await _write(response, kind, changed)
                    version = self._version
                    await news.wait()
        except TimeoutError:
            await self._going.wait()
            bookmark = {"metadata": {"resourceVersion": str(version)}}
            if self.bookmarks:
                await _write(response, "BOOKMARK", bookmark)
        return response


def _may(rules: Rules, method: str, path: str, query: Mapping[str, str]) -> bool:
    """Return whether a Role in the namespace "pool-service" permits a call."""
    _, _, *group, _, _, namespace, resource = path.split("/")[: COLLECTION_DEPTH + 1]
    name = path.removeprefix("/").split("/")[COLLECTION_DEPTH:]
    verb = {"POST": "create", "PUT": "update", "DELETE": "delete"}.get(method, "get")
    if verb == "get" and not name:
        verb = "watch" if query.get("watch") == "true" else "list"
    return namespace == "pool-service" and any(
        [*group, ""][0] in rule["apiGroups"]
        and resource in rule["resources"]
        and verb in rule["verbs"]
        and ("resourceNames" not in rule or bool({*name} & {*rule["resourceNames"]}))
        for rule in rules
    )


def _fits(stored: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    key, equals, value = query.get("labelSelector", "").partition("=")
    return not equals or stored["metadata"].get("labels", {}).get(key) == value


async def _write(response: web.StreamResponse, kind: str, content: Mapping[str, Any]) -> None:
    await response.write(json.dumps({"type": kind, "object": content}).encode() + b"\n")


def _failure(status: int, message: str) -> dict[str, object]:
    return {"kind": "Status", "status": "Failure", "code": int(status), "message": message}


def _status(status: int, message: str) -> web.Response:
    return web.json_response(_failure(status, message), status=status)
