"""Who may call a server, by the headers of a call."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.children.server_child import (
    ALLOWED_HOSTS,
    TRUST,
    HostFilter,
    Names,
    OwnFiles,
)
from pool_service.adapters.runtime import vllm_mlx

NAMES = Names(["models.example", "app://frame"], "127.0.0.1")


def test_what_it_shares_with_the_service_has_the_same_names() -> None:
    assert ALLOWED_HOSTS == vllm_mlx.ALLOWED_HOSTS
    assert TRUST == vllm_mlx.TRUST


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost:1", "localhost.:80", "127.0.0.1", "[::1]"),
        *("127.0.0.1:49321", "127.1.2.3:80", "[::1]:80", "[::ffff:127.0.0.1]:80"),
        *("models.example", "MODELS.example:443"),
    ],
)
def test_loopback_and_what_is_configured_are_its_names(host: str) -> None:
    assert NAMES.is_host(host.encode())
    assert NAMES.is_origin(f"http://{host}".encode())
    assert NAMES.is_origin(f"https://{host}".encode())


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "localhost.evil.example", "evil-localhost", ""),
        *("127.0.0.1.evil.example", "127.0.0.1.nip.io", "192.168.1.2:80", "10.0.0.1", "0.0.0.0"),
        *("[::2]", "[::]", "::1", "localhost@evil", "localhost:80@evil", "localhost/evil", "host:"),
        *("a.models.example", "models.example.evil", "2130706433", "127.1", "[localhost]x", "\xff"),
        *("localhost, evil.example", "localhost evil", "0x7f.0.0.1", "[::1", "app://frame", "*"),
    ],
)
def test_all_else_is_foreign(host: str) -> None:
    assert not NAMES.is_host(host.encode("latin1"))
    assert not NAMES.is_origin(f"http://{host}".encode("latin1"))


def test_a_page_without_an_origin_of_its_own_is_foreign_unless_it_is_configured() -> None:
    assert not NAMES.is_origin(b"null")
    assert Names(["null"], "").is_origin(b"null")
    assert not Names(["null"], "").is_host(b"null")
    assert not NAMES.is_origin(b"file://localhost")
    assert not NAMES.is_origin(b"localhost")
    assert NAMES.is_origin(b"app://frame")
    assert not NAMES.is_origin(b"app://frame.evil")


def test_where_it_listens_on_all_addresses_any_of_them_will_do() -> None:
    for wildcard in ("0.0.0.0", "::"):
        open_to_all = Names([], wildcard)
        assert open_to_all.is_host(b"192.168.1.2:80")
        assert open_to_all.is_host(b"[fe80::1]:80")
        assert not open_to_all.is_host(b"evil.example")
    assert Names([], "192.168.1.2").is_host(b"192.168.1.2:80")
    assert not Names([], "192.168.1.2").is_host(b"192.168.1.3:80")


async def app(
    scope: dict[str, Any], _receive: object, send: Callable[[object], Awaitable[None]]
) -> None:
    await send({"type": "reached", "scope": scope["type"]})


def called(kind: str, *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> None: ...

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": kind} | ({"headers": headers} if kind != "lifespan" else {})
    asyncio.run(HostFilter(app, NAMES)(scope, receive, send))  # type: ignore[arg-type]
    return sent


LOCAL = (b"host", b"localhost:1")
FOREIGN = (b"host", b"evil.example")
PAGE = (b"origin", b"https://evil.example")
REACHED = [{"type": "reached", "scope": "http"}]


def test_a_call_by_its_name_passes_and_so_does_one_that_names_nothing() -> None:
    assert called("http", LOCAL) == called("http") == REACHED
    assert called("http", (b"accept", b"*/*"), LOCAL, (b"origin", b"http://localhost:3000"))
    assert called("lifespan") == [{"type": "reached", "scope": "lifespan"}]
    assert called("websocket", LOCAL) == [{"type": "reached", "scope": "websocket"}]


@pytest.mark.parametrize(
    "headers", [(FOREIGN,), (LOCAL, FOREIGN), (FOREIGN, LOCAL), (LOCAL, PAGE), (PAGE,)]
)
def test_a_foreign_call_gets_an_error_as_openai_tells_one(
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    start, body = called("http", *headers)
    assert start["status"] == 403
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(body["body"])
    error = json.loads(body["body"])["error"]
    assert error["code"] == "forbidden_host"
    assert "evil.example" in error["message"]
    assert "allowed_hosts" in error["message"]


@pytest.mark.parametrize("header", [FOREIGN, PAGE])
def test_a_foreign_websocket_is_closed_before_it_is_open(header: tuple[bytes, bytes]) -> None:
    assert called("websocket", header) == [{"type": "websocket.close", "code": 1008}]


def test_files_of_a_model_inside_the_runtime_are_not_the_runtimes(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "runtime", tmp_path / "elsewhere"
    (root / "model").mkdir(parents=True)
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    own = OwnFiles([str(root)], [str(root / "model"), str(elsewhere)])
    assert own.has(str(root / "module.py"))
    assert not own.has(str(root / "model" / "module.py"))
    assert not own.has(str(root / "link" / "module.py"))
    assert not own.has(str(root / ".." / "elsewhere" / "module.py"))
    assert not own.has(f"{root}2/module.py")
    # However often it was asked before of files beside them.
    (root / "module.py").write_text("")
    (root / "model" / "honest.py").symlink_to(root / "module.py")
    assert own.has(str(root / "model" / "honest.py"))
    assert not own.has(str(root / "model" / "module.py"))
    (elsewhere / "honest.py").symlink_to(root / "module.py")
    assert own.has(str(root / "link" / "honest.py"))
    assert not own.has(str(root / "link" / "module.py"))
    (root / "leads_there.py").symlink_to(root / "model" / "module.py")
    assert own.has(str(root / "module.py"))
    assert not own.has(str(root / "leads_there.py"))
    without = OwnFiles([str(root)], [])
    assert without.has(str(root / "module.py"))
    assert not without.has(str(root / ".." / "elsewhere" / "module.py"))
