"""The calls of the page: gRPC's handlers with JSON, for nobody but the page of this service."""

import asyncio
import json
import re
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from pool_service.access.principal import LOCAL
from pool_service.core.types import Settings
from pool_service.http import limits
from pool_service.page import api
from pool_service.rpc.json_calls import MAX_PAGE_SIZE, STREAMS, UNARY, Caller, JsonCalls
from pool_service.v1 import pool_service_pb2 as pb
from tests.http.speaking import LIMIT_S, Peer
from tests.page.paging import OURS, Paged, paged
from tests.pool.running import DEFAULTS
from tests.rpc.serving import failure
from tests.world import NEVER, Script, key_of, settled

LISTED: dict[str, Settings] = {"listed": DEFAULTS}

ALIKE: dict[str, Message] = {
    "Describe": pb.DescribeRequest(model="m"),
    "Ensure": pb.EnsureRequest(model="m"),
    "ListModels": pb.ListModelsRequest(found=True),
    "Pin": pb.PinRequest(model="m", pinned=True),
}


def as_json(message: Message) -> str:
    return json_format.MessageToJson(message, preserving_proto_field_name=True)


async def piece(peer: Peer) -> bytes:
    """The next piece of a stream; the first time behind its head."""
    async with asyncio.timeout(LIMIT_S):
        size = int(await peer.reader.readline(), 16)
        found = await peer.reader.readexactly(size)
        await peer.reader.readline()
    return found


async def lines(peer: Peer, count: int) -> list[dict[str, Any]]:
    """The next lines of a stream that are not empty."""
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found += map(json.loads, filter(None, (await piece(peer)).splitlines()))
    return found


async def streaming(told: Paged, method: str, request: object) -> Peer:
    """A connection on which a stream has begun."""
    peer, body = await told.site.connect(), json.dumps(request).encode()
    head = [f"POST /api/{method} HTTP/1.1", *OURS, f"Content-Length: {len(body)}", "", ""]
    peer.send("\r\n".join(head).encode() + body)
    async with asyncio.timeout(LIMIT_S):
        assert b" 200 " in await peer.reader.readuntil(b"\r\n\r\n")
    return peer


@pytest.mark.parametrize("method", sorted(ALIKE))
async def test_a_call_gives_what_grpc_gives(method: str, tmp_path: Path) -> None:
    async with paged(tmp_path, models=LISTED) as told:
        await told.service.ensure("m")
        if method == "Pin":
            await told.service.stub.Pin(ALIKE[method])
        by_grpc = await getattr(told.service.stub, method)(ALIKE[method])
        answer = await told.post(method, as_json(ALIKE[method]).encode())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    by_json = json_format.Parse(answer.body, type(by_grpc)())
    if isinstance(by_grpc, pb.DescribeResponse):
        # Its worth falls with time.
        by_json.next_to_go[0].retention_seconds = by_grpc.next_to_go[0].retention_seconds
    if isinstance(by_grpc, pb.EnsureResponse):
        # The second one is a later use.
        by_json.server.last_use_time.CopyFrom(by_grpc.server.last_use_time)
        by_json.server.expire_time.CopyFrom(by_grpc.server.expire_time)
        # The page makes no requests to a server, and is shown to people.
        assert (by_grpc.api_key, by_json.api_key) == (key_of("m", 1), "")
        by_json.api_key = by_grpc.api_key
    assert by_json == by_grpc


async def test_an_eviction_gives_what_it_has_evicted(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        response = await told.called("Evict", {"model": "m"})
        assert [one["server"]["model"] for one in response["evicted"]] == ["m"]
        assert not told.service.world.living


async def test_zeros_and_empty_lists_are_told(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        response = await told.called("Pin", {"model": "m", "pinned": False})
        models = await told.called("ListModels")
    assert (response["pinned"], response["changed"], models["models"]) == (False, False, [])


@pytest.mark.parametrize(
    ("method", "request_", "status"),
    [
        ("Describe", pb.DescribeRequest(model="\n"), 400),
        ("Describe", pb.DescribeRequest(model="nobody"), 404),
        ("Pin", pb.PinRequest(model="nobody", pinned=True), 404),
        ("Ensure", pb.EnsureRequest(model="fails"), 503),
        ("Evict", pb.EvictRequest(model="held"), 409),
    ],
)
async def test_a_call_fails_with_the_code_the_reason_and_the_message_of_grpc(
    method: str, request_: Message, status: int, tmp_path: Path
) -> None:
    listed = {"fails": DEFAULTS, "held": DEFAULTS}
    async with paged(tmp_path, models=listed, only_listed=True) as told:
        world, stub = told.service.world, told.service.stub
        world.script("fails", Script(load=NEVER, dies=0.0))
        hold = stub.Hold(pb.HoldRequest(model="held"))
        while (await hold.read()).server.state != pb.SERVER_STATE_READY:
            pass
        by_json = await told.refused(method, as_json(request_).encode())
        by_grpc = await failure(getattr(stub, method)(request_))
        hold.cancel()
    assert by_json[0] == status
    assert by_json[1]["code"] == by_grpc.code
    assert by_json[1]["reason"] == by_grpc.reason
    generation = re.compile(r"\d+;")
    assert generation.sub("", by_json[1]["message"]) == generation.sub("", by_grpc.message)


async def test_an_internal_error_tells_no_more_than_by_grpc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_arguments: object) -> None:
        raise LookupError("a secret of the inside")

    async with paged(tmp_path) as told:
        monkeypatch.setattr(told.service.pool.models, "page", fails)
        status, error = await told.refused("ListModels")
    assert (status, error["code"], error["reason"]) == (500, "INTERNAL", "INTERNAL")
    assert "secret" not in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"m"',
        b"\xff\xfe",
        b'{"model": 3}',
        b'{"unknown": ""}',
        b'{"model": "\\ud800"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b'{"model": "m", "model": "n"}',
    ],
    ids=["cut", "list", "text", "no UTF-8", "type", "key", "surrogate", "deep", "deeper", "twice"],
)
async def test_what_is_no_request_is_refused_and_nothing_happens(
    body: bytes, tmp_path: Path
) -> None:
    async with paged(tmp_path) as told:
        status, error = await told.refused("Ensure", body)
        assert (status, error["code"]) == (400, "INVALID_ARGUMENT")
        assert not told.service.world.living
        status, error = await told.refused("Describe", body)
        assert (status, error["code"]) == (400, "INVALID_ARGUMENT")


async def test_a_body_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        answer = await told.post("Ensure", b" " * (limits.MAX_BODY_BYTES + 1))
        assert answer.status == 413


# --- who may call -----------------------------------------------------------------------


FOREIGN = {
    "no header of the page": (403, ("Host: localhost",)),
    "another site": (403, ("Host: localhost", "X-Pool: 1", "Sec-Fetch-Site: cross-site")),
    "another port": (403, ("Host: localhost", "X-Pool: 1", "Sec-Fetch-Site: same-site")),
    "no page": (403, ("Host: localhost", "X-Pool: 1", "Sec-Fetch-Site: none")),
    "another name": (421, ("Host: evil.example", "X-Pool: 1", "Sec-Fetch-Site: same-origin")),
    "another origin": (403, (*OURS, "Origin: http://evil.example")),
    "another port as origin": (403, ("Host: localhost:1", *OURS[1:], "Origin: http://localhost")),
    "no origin": (403, (*OURS, "Origin: null")),
    "another origin, and no site": (403, (*OURS[:2], "Origin: http://evil.example")),
    "no site and no header": (403, ("Host: localhost", "Origin: http://localhost")),
}


@pytest.mark.parametrize("who", FOREIGN)
async def test_nobody_else_may_call(who: str, tmp_path: Path) -> None:
    status, headers = FOREIGN[who]
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        revision = told.service.pool.history.revision
        bodies = {"Ensure": {"model": "n"}, "Evict": {"model": "m"}}
        for method in sorted({*UNARY, *STREAMS, "Usage", "Changes", "Ended"}):
            answer = await told.post(method, bodies.get(method, {"model": "m"}), headers)
            assert answer.status == status, method
            assert b'm"' not in answer.body
            assert "access-control-allow-origin" not in answer.headers
        assert told.service.pool.history.revision == revision


async def test_a_unix_socket_that_something_forwards_to_is_called_by_no_other_name(
    socket_dir: Path, tmp_path: Path
) -> None:
    async with paged(tmp_path, listen=f"unix:{socket_dir}/http.sock") as told:
        await told.service.ensure("m")
        for headers in (
            ("Host: evil.example:9464", *OURS[1:]),
            ("Host: ", *OURS[1:]),
            ("Host: evil.example:9464", "X-Pool: 1"),
            ("Host: evil.example:9464", "X-Pool: 1", "Origin: http://evil.example:9464"),
            (*OURS, "Origin: http://evil.example:9464"),
        ):
            answer = await told.post("Evict", {"model": "m"}, headers)
            assert answer.status == 403, headers
        assert (await told.called("Describe", {"model": "m"}))["servers"]


@pytest.mark.parametrize(
    "headers",
    [
        ("Host: localhost", "X-Pool: 1"),
        ("Host: localhost:9464", *OURS[1:], "Origin: http://localhost:9464"),
        ("Host: 127.0.0.1:1", "X-Pool: 1", "Origin: http://127.0.0.1:1"),
        ("Host: localhost", *OURS[1:], "Origin: https://localhost"),
    ],
    ids=["a browser that says nothing", "its origin", "another port forwarded", "behind HTTPS"],
)
async def test_the_page_itself_may_call(headers: tuple[str, ...], tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        answer = await told.post("Ensure", {"model": "m"}, headers)
        assert answer.status == 200
        assert told.service.world.living


async def test_a_browser_that_asks_for_leave_gets_none(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        peer = await told.site.connect()
        answer = await peer.ask(
            "OPTIONS /api/Evict HTTP/1.1",
            "Host: localhost",
            "Origin: http://localhost:1",
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: x-pool",
        )
    assert answer.status == 405
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize("method", sorted({*UNARY, *STREAMS}))
async def test_a_call_by_get_is_refused(method: str, tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        peer = await told.site.connect()
        answer = await peer.ask(f"GET /api/{method}?model=m HTTP/1.1", *OURS)
    assert answer.status == 405


async def test_what_the_page_changes_is_kept_with_the_page_as_its_caller(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.called("Ensure", {"model": "m"})
        await told.called("Pin", {"model": "m", "pinned": True})
        await told.called("Evict", {"model": "m"})
        await told.refused("Evict", {"model": "\n"})
        kept = told.service.world.events.of("call")
    assert [(one["method"], one["model"], one["peer"]) for one in kept] == [
        ("Ensure", "m", "page"),
        ("Pin", "m", "page"),
        ("Evict", "m", "page"),
        ("Evict", "\n", "page"),
    ]


# --- cancelled --------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_is_kept_and_no_longer_waits(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        told.service.world.script("m", Script(load=NEVER))
        calls = JsonCalls(told.service.servicer)
        call = asyncio.create_task(calls.unary("Ensure", b'{"model": "m"}', Caller("page", LOCAL)))
        await settled(lambda: told.service.pool.totals().waiting_calls == 1)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert told.service.pool.totals().waiting_calls == 0
        (kept,) = told.service.world.events.of("call")
        assert (kept["code"], kept["peer"]) == ("CANCELLED", "page")
        await told.service.stub.Evict(pb.EvictRequest(model="m", force=True))


# --- streams ----------------------------------------------------------------------------


async def test_a_stream_gives_a_line_for_each_response_as_it_comes(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        peer = await streaming(told, "Watch", {})
        shown, synced = await lines(peer, 2)
        assert (shown["server"]["model"], "synced" in synced) == ("m", True)
        pinned = pb.PinRequest(model="m", pinned=True)
        await told.service.stub.Pin(pinned)
        (change,) = await lines(peer, 1)
        assert change["server"]["pinned"] is True
        assert int(change["revision"]) > int(synced["revision"])


@pytest.mark.parametrize(
    ("method", "request_"), [("Watch", {}), ("TailLogs", {"model": "m", "follow": True})]
)
async def test_a_stream_ends_with_its_reader(method: str, request_: object, tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        before = len(asyncio.all_tasks())
        peer = await streaming(told, method, request_)
        if method == "Watch":
            await lines(peer, 2)
        peer.close()
        await settled(lambda: len(asyncio.all_tasks()) <= before)


@pytest.mark.parametrize(
    ("method", "request_", "reason"),
    [
        ("Watch", {"after_revision": "1"}, "REVISION_COMPACTED"),
        ("Watch", {"after_revision": -1}, "INVALID_REQUEST"),
        ("TailLogs", {"model": "\n"}, "INVALID_MODEL"),
    ],
)
async def test_a_stream_that_fails_ends_with_the_error(
    method: str, request_: object, reason: str, tmp_path: Path
) -> None:
    async with paged(tmp_path) as told:
        peer = await streaming(told, method, request_)
        (last,) = await lines(peer, 1)
        assert last["error"]["reason"] == reason
        async with asyncio.timeout(LIMIT_S):
            assert await peer.reader.readline() == b"0\r\n", "the stream is whole"


async def test_a_watch_ends_with_the_service(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        peer = await streaming(told, "Watch", {})
        await lines(peer, 1)
        await told.service.server.set_not_serving()
        told.service.pool.history.close()
        (last,) = await lines(peer, 1)
    assert last["error"]["code"] == grpc.StatusCode.UNAVAILABLE.name


async def test_a_watch_whose_reader_is_overtaken_ends_with_an_error(tmp_path: Path) -> None:
    async with paged(tmp_path, capacity=8) as told:
        calls = JsonCalls(told.service.servicer)
        async with aclosing(calls.stream("Watch", b"{}", Caller("page", LOCAL))) as watch:
            assert "synced" in json.loads(await anext(watch))
            await told.service.ensure("m")
            assert json.loads(await anext(watch))["server"]["model"] == "m"
            for model in ("n", "o"):
                await told.service.ensure(model)
            error = json.loads(await anext(watch))["error"]
            assert (error["code"], error["reason"]) == ("OUT_OF_RANGE", "REVISION_COMPACTED")
            assert await anext(watch, None) is None


@pytest.mark.parametrize("method", sorted(STREAMS))
async def test_a_stream_during_a_recovery_fails_without_a_line_before(
    method: str, tmp_path: Path
) -> None:
    async with paged(tmp_path, recovers=False) as told:
        peer = await streaming(told, method, {"model": "m"} if method == "TailLogs" else {})
        error = json.loads(await piece(peer))["error"]
        assert (error["code"], error["reason"]) == ("UNAVAILABLE", "RECOVERING")
        await told.service.pool.recover(1.0)


@pytest.mark.parametrize("method", sorted(STREAMS))
async def test_a_stream_without_news_sends_empty_lines(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BEGUN_S", 0.0)
    monkeypatch.setattr(api, "HEARTBEAT_S", 0.01)
    async with paged(tmp_path) as told:
        await told.service.ensure("m")
        revision = str(told.service.pool.history.revision)
        requests: dict[str, object] = {
            "TailLogs": {"model": "m", "follow": True},
            "Watch": {"after_revision": revision},
        }
        peer = await streaming(told, method, requests[method])
        empty = 0
        while empty < 3:
            empty += await piece(peer) == b"\n"
        if method == "Watch":
            await told.service.stub.Pin(pb.PinRequest(model="m", pinned=True))
            (change,) = await lines(peer, 1)
            assert change["server"]["pinned"] is True


async def test_a_stream_that_has_begun_says_so_before_its_first_line(tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        revision = str(told.service.pool.history.revision)
        peer = await streaming(told, "Watch", {"after_revision": revision})
        assert await piece(peer) == b"\n"


async def test_one_page_of_models_has_so_many_at_most(tmp_path: Path) -> None:
    listed = {f"m{number:03}": DEFAULTS for number in range(MAX_PAGE_SIZE + 5)}
    async with paged(tmp_path, models=listed) as told:
        for size in (0, 1000):
            first = await told.called("ListModels", {"page_size": size})
            assert [one["model"] for one in first["models"]] == sorted(listed)[:MAX_PAGE_SIZE]
            token = first["next_page_token"]
            rest = await told.called("ListModels", {"page_size": size, "page_token": token})
            assert [one["model"] for one in rest["models"]] == sorted(listed)[MAX_PAGE_SIZE:]
        assert len((await told.called("ListModels", {"page_size": 3}))["models"]) == 3
        assert (await told.refused("ListModels", {"page_size": -1}))[0] == 400
