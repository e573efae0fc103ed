"""The HTTP listener: what it answers, what it refuses, and what no client can make it do."""

import asyncio
import socket
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.address import Address, AddressError
from pool_service.http import limits
from pool_service.http.exchange import Routes
from pool_service.http.listener import HttpListener
from pool_service.listening import Resolved
from tests.access.letting_in import admission
from tests.http.speaking import LIMIT_S, accepted, connected, connections, site


async def test_a_request_is_answered_and_the_connection_stays() -> None:
    async with site() as served:
        peer = await served.connect()
        answers = [await peer.ask(f"GET /hello{query} HTTP/1.1") for query in ("", "?a=1")]
        assert [(answer.status, answer.body) for answer in answers] == [(200, b"hello")] * 2
        answer = answers[0]
        assert [request.query for request in served.asked] == ["", "a=1"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["date"].endswith("gmt")


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with site() as served:
        peer = await served.connect()
        both = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        peer.send(both % b"hello" + both % b"pieces")
        assert [(await peer.answer()).body for _ in range(2)] == [b"hello", b"0,1,2,"]


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with site() as served:
        peer = await served.connect()
        for path in ("/hello", "/pieces"):
            assert (await peer.ask(f"HEAD {path} HTTP/1.1")).status == 200
        assert (await peer.ask("HEAD /hello HTTP/1.1")).headers["content-length"] == "5"
        assert (await peer.ask()).body == b"hello", "nothing else came before"


async def test_a_body_is_read_also_one_that_waits_to_be_asked_for() -> None:
    async with site() as served:
        peer = await served.connect()
        peer.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n")
        peer.send(b"Expect: 100-continue\r\n\r\n")
        assert (await peer.answer(has_body=False)).status == 100
        peer.send(b"abc")
        assert (await peer.answer()).body == b"abc"


@pytest.mark.parametrize("path", ["/", "/hello/", "/hello%20", "//hello", "http://localhost/hello"])
async def test_another_path_is_not_found(path: str) -> None:
    async with site() as served:
        answer = await (await served.connect()).ask(f"GET {path} HTTP/1.1")
        assert answer.status == 404
        assert b"/hello" in answer.body
        assert served.asked == []


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
async def test_another_method_is_refused_and_says_which_are_not(method: str) -> None:
    async with site() as served:
        answer = await (await served.connect()).ask(f"{method} /hello HTTP/1.1")
        assert (answer.status, answer.headers["allow"]) == (405, "get, head")
        assert served.asked == []
        assert (await served.peers[0].ask()).status == 200, "the connection goes on"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost:9464", "127.0.0.1", "127.0.0.1:1", "127.1.2.3:80", "[::1]", "[::1]:8"],
)
async def test_a_request_to_this_machine_is_answered(host: str) -> None:
    async with site() as served:
        answer = await (await served.connect()).ask("GET /hello HTTP/1.1", f"Host: {host}")
        assert answer.status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "localhost.evil.example", "10.0.0.1", "[::2]", ""],
)
async def test_a_page_whose_name_was_made_to_lead_here_is_refused(host: str) -> None:
    async with site() as served:
        answer = await (await served.connect()).ask("GET /hello HTTP/1.1", f"Host: {host}")
        assert answer.status == 421
        assert served.asked == []


async def test_http_1_0_without_a_host_is_answered_and_ended() -> None:
    async with site() as served:
        peer = await served.connect()
        answer = await peer.ask("GET /pieces HTTP/1.0", "Accept: */*")
        assert answer.status == 200
        assert await peer.ended() == b""


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 20_000, 431),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n", 413),
        (
            b"POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"20000\r\n" + b"a" * 0x20000 + b"\r\n0\r\n\r\n",
            413,
        ),
    ],
)
async def test_what_is_wrong_or_too_large_is_refused_and_ends_the_connection(
    sent: bytes, status: int
) -> None:
    async with site() as served:
        peer = await served.connect()
        peer.send(sent)
        answer = await peer.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await peer.ended() == b""
        assert served.asked == []


@pytest.mark.parametrize("sent", [b"", b"GET /hel", b"POST /echo HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_client_that_goes_away_in_the_middle_is_forgotten_without_a_word(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 10 * LIMIT_S)
    async with site() as served:
        with capture_logs() as logs:
            peer = await served.connect()
            peer.send(sent)
            await accepted(1)
            peer.close()
            await asyncio.wait_for(_until_none_is_connected(), LIMIT_S)
        assert logs == []


async def test_junk_behind_head_is_refused_with_a_body() -> None:
    async with site() as served:
        peer = await served.connect()
        assert (await peer.ask("HEAD /hello HTTP/1.1")).status == 200
        peer.send(b"nonsense\r\n\r\n")
        answer = await peer.answer()
        assert answer.status == 400
        assert b"this is no HTTP" in answer.body


async def test_an_answer_that_breaks_http_is_a_bug_and_is_logged() -> None:
    async with site() as served:
        with capture_logs() as logs:
            peer = await served.connect()
            peer.send(b"GET /invalid HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await peer.ended() == b""
        assert [line["log_level"] for line in logs] == ["error"]


async def test_a_bug_of_a_handler_is_logged_and_told_without_its_text() -> None:
    async with site() as served:
        with capture_logs() as logs:
            answer = await (await served.connect()).ask("GET /fails HTTP/1.1")
        assert answer.status == 500
        assert b"a bug" not in answer.body
        assert [line["path"] for line in logs if line["log_level"] == "error"] == ["/fails"]


@pytest.mark.parametrize("sent", [b"", b"GET /hello HTTP/1.1\r\nHo", b"GET /hello"])
async def test_a_slow_request_is_given_up(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REQUEST_TIMEOUT_S", 0.05)
    async with site() as served:
        peer = await served.connect()
        peer.send(sent)
        assert await peer.ended() == b""


async def test_a_connection_without_a_next_request_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "IDLE_TIMEOUT_S", 0.05)
    async with site() as served:
        peer = await served.connect()
        assert (await peer.ask()).status == 200
        assert await peer.ended() == b""


async def test_a_client_that_reads_nothing_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "WRITE_TIMEOUT_S", 0.05)
    async with site() as served:
        with connected(served.address) as deaf:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(deaf, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            # Its own buffers fill, and the listener gives up. Only then it begins to read.
            async with asyncio.timeout(LIMIT_S):
                await served.waits.wait()
                await _until_none_is_connected()
                while await loop.sock_recv(deaf, 1_000_000):
                    pass


async def _until_none_is_connected() -> None:
    await asyncio.wait(connections())


async def test_one_that_is_ended_before_its_first_step_is_closed() -> None:
    async with site() as served:
        ours, theirs = socket.socketpair()
        with theirs:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader, served.listener._accept)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, ours)
            (task,) = connections()
            task.cancel()
            await asyncio.wait([task])
            assert transport.is_closing()


async def test_the_end_waits_for_an_answer_under_way_and_for_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "STOP_GRACE_S", 10 * LIMIT_S)
    async with site() as served:
        idle, silent, asking = [await served.connect() for _ in range(3)]
        assert (await idle.ask()).status == 200
        asked = asyncio.create_task(asking.ask("GET /wait HTTP/1.1"))
        await asyncio.wait_for(served.waits.wait(), LIMIT_S)
        stopping = asyncio.create_task(served.listener.stop())
        assert [await one.ended() for one in (idle, silent)] == [b"", b""]
        assert not stopping.done()
        served.release.set()
        assert (await asked).body == b"released"
        await asyncio.wait_for(stopping, LIMIT_S)
        with pytest.raises(ConnectionRefusedError):
            await served.connect()


async def test_a_port_that_is_taken_is_refused_with_the_reason() -> None:
    async with site() as served:
        with pytest.raises(AddressError, match="taken by another program"):
            await HttpListener(Address.parse(served.address), Routes(), admission()).start()


async def test_a_second_address_that_is_taken_leaves_the_first_one_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def twice(_text: str) -> list[Resolved]:
        return [Resolved(socket.AF_INET, "127.0.0.1")] * 2

    monkeypatch.setattr("pool_service.http.listener.resolve", twice)
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    listener = HttpListener(Address.parse(f"127.0.0.1:{port}"), Routes(), admission())
    with pytest.raises(AddressError):
        await listener.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_localhost_is_both_addresses_of_loopback_on_one_port() -> None:
    async with site("localhost:0") as served:
        _, _, port = served.address.rpartition(":")
        hosts = ["127.0.0.1", *(["::1"] if socket.has_ipv6 and _has_ipv6_loopback() else [])]
        for host in hosts:
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /hello HTTP/1.0\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 200")
            writer.close()


def _has_ipv6_loopback() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


async def test_a_unix_socket_is_the_users_own_and_answers_under_any_name(
    socket_dir: Path,
) -> None:
    path = socket_dir / "http.sock"
    async with site(f"unix:{path}") as served:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        answer = await (await served.connect()).ask("GET /hello HTTP/1.1", "Host: pool.example")
        assert answer.body == b"hello"
    assert not path.exists()


async def test_a_removed_unix_socket_is_made_again(
    socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pool_service.http.listener.CHECK_INTERVAL_S", 0.01)
    path = socket_dir / "http.sock"
    routes = Routes()
    listener = HttpListener(Address.parse(f"unix:{path}"), routes, admission())
    await listener.start()
    keeping = asyncio.create_task(listener.keep_socket())
    try:
        path.unlink()
        async with asyncio.timeout(LIMIT_S):
            while not path.exists():  # noqa: ASYNC110  # nobody tells when
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_unix_connection(str(path))
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b"404" in await reader.readline()
            writer.close()
        # The socket stays away although it is still looked after.
        await listener.stop()
        await asyncio.wait_for(keeping, LIMIT_S)
    finally:
        keeping.cancel()
        await listener.stop()
    assert not path.exists()
