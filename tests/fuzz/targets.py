"""What reads bytes from outside, one function each: whatever the bytes, only its own errors."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h11
from google.protobuf.message import DecodeError

from pool_service.adapters import http_get, sock_diag
from pool_service.adapters.health import is_healthy, reported_use
from pool_service.adapters.http_get import MAX_BODY, Answer
from pool_service.adapters.model_code import code_in
from pool_service.adapters.model_files import locate
from pool_service.adapters.record_format import decode, encode
from pool_service.adapters.record_members import BadRecord
from pool_service.adapters.samples import as_number
from pool_service.config.loading import load
from pool_service.config.problems import ConfigError
from pool_service.core.errors import InvalidField
from pool_service.rpc import fields
from pool_service.v1 import pool_service_pb2 as pb
from tests.fuzz.structures import Bytes, as_json

RECORD_KEYS = (
    "version", "boot_id", "model", "server", "past", "phase", "generation", "settings", "plan",
    "identity", "pid", "start", "nonce", "port", "use", "last_exit", "error", "crashes",
)  # fmt: skip
HEALTH_KEYS = ("status", "model_loaded", "active_requests", "last_used_at")
MODEL_KEYS = ("auto_map", "model_file", "weight_map", "metadata", "total_size", "quantization")
SHARDS = (
    "model.safetensors",
    "model-00001-of-00002.safetensors",
    "../x",
    "a.bin",
    "._model.safetensors",
)
CONFIG_KEYS = (
    "service", "memory", "defaults", "models", "runtime", "logs", "listen", "budget", "keep_alive",
    "aliases", "command", "kind", "env",
)  # fmt: skip

REQUESTS: tuple[Any, ...] = (
    pb.EnsureRequest, pb.HoldRequest, pb.EvictRequest, pb.ListRequest,
)  # fmt: skip


def record(data: bytes) -> None:
    source = Bytes(data)
    content = as_json(source.value(RECORD_KEYS)) if source.byte() % 2 else source.rest()
    with suppress(BadRecord):
        encode(decode(content))


def health(data: bytes) -> None:
    source = Bytes(data)
    body = as_json(source.value(HEALTH_KEYS, 3)) if source.byte() % 2 else source.rest()
    answer = Answer(200, source.choose(("application/json", "text/plain")), body)
    is_healthy(answer)
    reported_use(answer)
    as_number(source.value(HEALTH_KEYS, 0))


def http_answer(data: bytes) -> None:
    """What a server answers, in pieces."""
    reading: Any = http_get._Reading(_asked(), MAX_BODY)
    source = Bytes(data)
    size = 1 + source.byte()
    content = source.rest()
    with suppress(h11.ProtocolError):
        for start in range(0, len(content), size):
            reading.receive(content[start : start + size])
            if reading.read_on() is not None:
                return
        reading.receive(b"")
        reading.read_on()


def _asked() -> h11.Connection:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/health", headers=[("host", "h")]))
    connection.send(h11.EndOfMessage())
    return connection


def model_directory(data: bytes) -> None:
    source = Bytes(data)
    with _scratch() as directory:
        for name in ("config.json", "model.safetensors.index.json", "tokenizer_config.json"):
            if source.byte() % 4:
                (directory / name).write_bytes(as_json(source.value((*MODEL_KEYS, *SHARDS), 4)))
        for name in SHARDS[:2]:
            if source.byte() % 2:
                (directory / name).write_bytes(source.choose((b"", b"\x08" + b"\0" * 7 + b"{}")))
        (directory / "generation_config.json").write_bytes(source.rest())
        code_in(directory)
        locate(str(directory), {})


def hub_cache(data: bytes) -> None:
    source = Bytes(data)
    with _scratch() as directory:
        repository = directory / "hub" / "models--a--b"
        (repository / "refs").mkdir(parents=True)
        (repository / "snapshots" / "abc").mkdir(parents=True)
        (repository / "snapshots" / "abc" / "config.json").write_bytes(b"{}")
        (repository / "refs" / "main").write_bytes(source.rest())
        locate("a/b", {"HF_HOME": str(directory)})


def configuration(data: bytes) -> None:
    source = Bytes(data)
    with _scratch() as directory:
        file = directory / "pool.toml"
        lines = _toml(source) if source.byte() % 2 else source.rest()
        file.write_bytes(lines)
        with suppress(ConfigError):
            load(file, {}, {})


def _toml(source: Bytes) -> bytes:
    lines = []
    for _ in range(source.byte() % 12):
        if source.byte() % 3 == 0:
            lines.append(f"[{source.choose(CONFIG_KEYS)}]")
        else:
            value = as_json(source.value(CONFIG_KEYS, 1)).decode()
            lines.append(f"{source.choose(CONFIG_KEYS)} = {value}")
    return "\n".join(lines).encode()


def request(data: bytes) -> None:
    source = Bytes(data)
    kind: Any = source.choose(REQUESTS)
    try:
        asked: Any = kind.FromString(source.rest())
    except DecodeError:
        return
    with suppress(InvalidField):
        match asked:
            case pb.EnsureRequest() | pb.HoldRequest():
                fields.keep_alive(asked)
                fields.model(asked.model)
                fields.runtime_model(asked.runtime_model)
            case pb.EvictRequest():
                fields.target(asked)
            case _:
                fields.page(asked)


def netlink(data: bytes) -> None:
    """The kernel's answers, which nobody forges; but a loop must end."""
    for _, body in sock_diag.messages(data):
        # Of a family that was not asked for the kernel tells nothing.
        if len(body) >= sock_diag._SOCKET.size and body[0] in (socket.AF_INET, socket.AF_INET6):
            sock_diag.parse(body)
            sock_diag.parse_connection(body)


@contextmanager
def _scratch() -> Iterator[Path]:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as directory:
        yield Path(directory)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        record, health, http_answer, model_directory, hub_cache, configuration, request, netlink,
    )
}  # fmt: skip
