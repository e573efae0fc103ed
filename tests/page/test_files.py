"""The files of the page: whole, nobody else's, and with what keeps a browser from all others."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from tests.page.paging import paged

FILES = sorted(file.name for file in files("pool_service.page").joinpath("files").iterdir())


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_served_with_a_strict_policy(name: str, tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        peer = await told.site.connect()
        path = "/" if name == "index.html" else f"/{name}"
        answer = await peer.ask(f"GET {path} HTTP/1.1")
    assert answer.status == 200
    assert answer.body == files("pool_service.page").joinpath("files", name).read_bytes()
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "*" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("method", ["ListModels", "Usage", "Ended", "Changes", "Watch", "Describe"])
async def test_each_answer_of_a_call_has_the_policy(method: str, tmp_path: Path) -> None:
    async with paged(tmp_path) as told:
        peer = await told.site.connect()
        peer.send(
            f"POST /api/{method} HTTP/1.1\r\nHost: localhost\r\nX-Pool: 1\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        head = (await peer.reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "content-security-policy: default-src 'none'" in head
    assert "x-content-type-options: nosniff" in head
    assert "cache-control: no-store" in head


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host_or_has_inline_code(name: str) -> None:
    text = files("pool_service.page").joinpath("files", name).read_text(encoding="utf-8")
    hosts = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", text))
    assert hosts <= {"http://www.w3.org"}, "the names of SVG"
    assert not re.search(r"\sstyle=|\son[a-z]+=|innerHTML|insertAdjacentHTML|eval\(", text)
    if name == "index.html":
        assert not re.search(r"<script(?![^>]*\ssrc=)", text)
