"""A record that no service wrote: whatever its members are, it is refused or harmless."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pool_service.adapters.records.record_format import Record, decode, encode
from pool_service.adapters.records.record_members import BadRecord
from pool_service.adapters.system.own_files import NotOurs, parse_json, read_own
from tests.adapters.disk import Disk
from tests.adapters.remembered import BOOT, ready


def with_member(path: str, value: object) -> bytes:
    record: dict[str, Any] = json.loads(encode(Record(BOOT, ready())))
    *parents, name = ("server", *path.split("."))
    place = record
    for parent in parents:
        place = place[parent]
    assert name in place
    place[name] = value
    return json.dumps(record).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("identity.pid", -1),
        ("identity.pid", 0),
        ("identity.pid", 1),
        ("identity.pid", 2**31),
        ("identity.pid", 10**30),
        ("identity.pid", True),
        ("generation", -1),
        ("generation", 2**63),
        ("peak", -5),
        ("expected", 10**20),
        ("keep_alive", -1.0),
        ("settings.drain_timeout", -1.0),
        ("settings.stop_timeout", float("nan")),
        ("created_at", 1e300),
        ("created_at", float("inf")),
        ("ready_at", -1e15),
        ("detail", "\ud800"),
        ("plan.nonce", "../.."),
        ("plan.nonce", ""),
        ("plan.port", 70_000),
        ("plan.health_path", "health"),
        ("plan.health_path", "/a b"),
        ("plan.health_path", "/\u00e9"),
        ("plan.ready_path", "/a\nb"),
        ("plan.use.path", "metrics"),
        ("plan.api_key", "secret"),
        ("plan.api_key", f"psk_{'x' * 44}"),
        ("plan.api_key", f"psk_{'x' * 42}\n"),
        ("endpoint", "http://127.0.0.1"),
        ("endpoint", "http://127.0.0.1:70000"),
        ("endpoint", "http://[::1:5"),
        ("endpoint", "http://example.com:80"),
        ("endpoint", "file:///etc"),
    ],
)
def test_a_member_that_no_service_writes_is_refused(path: str, value: object) -> None:
    with pytest.raises(BadRecord):
        decode(with_member(path, value))


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 10_000, b"\x00" * 100, b"NaN", b"\xff\xfe"],
)
def test_no_text_ends_its_reader(content: bytes) -> None:
    with pytest.raises(BadRecord):
        decode(content)


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000])
def test_what_is_too_deep_or_too_long_is_a_value_error(content: str) -> None:
    with pytest.raises(ValueError, match=r"deep|limit"):
        parse_json(content)


@pytest.mark.parametrize("kind", ["fifo", "link", "second name", "directory"])
def test_what_is_no_file_of_ours_is_not_read_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "x", tmp_path / "other"
    other.write_text("secret")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "link":
            path.symlink_to(other)
        case "second name":
            path.hardlink_to(other)
        case _:
            path.mkdir()
    with pytest.raises(NotOurs):
        read_own(path, 100)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is none")
def test_a_device_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"not a regular file|another user"):
        read_own("/dev/zero", 100)


async def test_what_is_no_record_is_set_aside_and_keeps_nobody_from_the_others(disk: Disk) -> None:
    await disk.keeps(ready("good"))
    os.mkfifo(disk.servers / "fifo.json")
    (disk.servers / "deep.json").write_bytes(b"[" * 100_000)
    (disk.servers / "large.json").write_bytes(b" " * 2_000_000)
    (disk.servers / "directory.json").mkdir()
    remembered = await disk.loaded()
    assert [server.model for server in remembered.servers] == ["good"]
    assert set(remembered.damaged) == {"fifo.json", "deep.json", "large.json", "directory.json"}
    assert {path.name for path in disk.damaged.iterdir()} == set(remembered.damaged)
