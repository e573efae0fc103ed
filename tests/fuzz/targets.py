"""What reads bytes from outside, one function each: whatever the bytes, only its own errors."""

import json
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h11
from google.protobuf.message import DecodeError

from pool_service.adapters.memory.memory import metal_memory
from pool_service.adapters.models.code_check import code_in
from pool_service.adapters.models.estimates import UsageKey, UsageStore
from pool_service.adapters.models.files import locate
from pool_service.adapters.models.weight_files import weight_files
from pool_service.adapters.probe import http_get
from pool_service.adapters.probe.health import is_healthy, reported_use
from pool_service.adapters.probe.http_get import MAX_BODY_BYTES, Answer
from pool_service.adapters.probe.metrics_text import as_number, is_selector, total
from pool_service.adapters.probe.ready_notify import _is_ready
from pool_service.adapters.records.record_format import Record, decode, encode
from pool_service.adapters.records.record_members import BadRecord
from pool_service.adapters.records.revision_file import first_revision
from pool_service.adapters.sockets import exact_queries, sock_diag
from pool_service.adapters.standby import process
from pool_service.adapters.state_dir import directory_lock, guard_lock
from pool_service.adapters.state_dir.holder import LOCK
from pool_service.config.errors import ConfigError
from pool_service.config.service_source import load
from pool_service.core.errors import CrashLoop, InvalidField
from pool_service.core.server import Cause, Exit, LastRun, Phase, Server
from pool_service.core.types import FOREVER, Diagnosis, ExitReport, Identity, LaunchPlan, Settings
from pool_service.rpc import validation
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

NOTE_KEYS = ("pid", "addresses", "doing", "start_time", "boot_id", "needed")
ME = Identity(3, 4, "b")
SERVER = Server(
    model="m",
    settings=Settings(runtime_model="org/m"),
    phase=Phase.READY,
    generation=1,
    created_at=1.0,
    last_used_at=2.0,
    keep_alive=FOREVER,
    plan=LaunchPlan(("run", "--port", "0"), (), 4, "/health", "served", "0123456789abcdef"),
    identity=Identity(4321, 99, "b"),
    endpoint="http://127.0.0.1:1",
    last_exit=Exit(
        1, Cause.CRASHED, ExitReport(1, None, Diagnosis.CRASHED, "it died", ("a",)), 1.0
    ),
    crashes=(1.0, 2.0),
    failure=CrashLoop("it dies", model="m", retry_after=5.0),
)
PAST = LastRun("m", 1, SERVER.last_exit, 3)
WRITTEN = [encode(Record("b", entry)) for entry in (SERVER, PAST)]

REQUESTS: tuple[Any, ...] = (
    pb.EnsureRequest, pb.HoldRequest, pb.EvictRequest, pb.ListRequest,
)  # fmt: skip


def record(data: bytes) -> None:
    """One that a service wrote, with some members changed; or anything."""
    source = Bytes(data)
    kind = source.byte() % 8
    if kind < len(WRITTEN):
        told = json.loads(WRITTEN[kind])
        source.mutate(told, RECORD_KEYS)
        content = as_json(told)
    else:
        content = as_json(source.value(RECORD_KEYS)) if kind % 2 else source.rest()
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
    reading: Any = http_get._Reading(_asked(), MAX_BODY_BYTES)
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


def weights(data: bytes) -> None:
    """The names of files, and what an index says of them."""
    source = Bytes(data)
    names = [source.choose(SHARDS) if source.byte() % 4 else source.text() for _ in range(4)]
    index: Any = {"metadata": {"total_size": 1}, "weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}
    source.mutate(index, (*MODEL_KEYS, *SHARDS))
    chosen = weight_files(dict.fromkeys(names, source.byte()), names[: source.byte() % 4])
    assert chosen.names <= set(names)
    with _scratch() as directory:
        (directory / "model.safetensors.index.json").write_bytes(as_json(index))
        (directory / SHARDS[0]).write_bytes(source.rest())
        locate(str(directory), {})


def lock_note(data: bytes) -> None:
    """What others wrote into the files of the locks."""
    source = Bytes(data)
    content = _noted(source, {"pid": 2, "addresses": ["a"], "doing": "it waits"}, NOTE_KEYS)
    guard = {"pid": 2, "start_time": 3, "boot_id": "b", "needed": False}
    more = _noted(source, guard, NOTE_KEYS)
    with _scratch() as directory:
        (directory / LOCK).write_bytes(content)
        directory_lock._held_error(directory)
        (directory / guard_lock.GUARD_LOCK).write_bytes(more)
        with (directory / guard_lock.GUARD_LOCK).open("rb") as file:
            holder = guard_lock._read_holder(file.fileno())
            guard_lock._is_younger(holder, ME)
            guard_lock._is_unneeded(file.fileno(), ME)
        (directory / "revision").write_bytes(more)
        first_revision(directory, 1)


def expectations(data: bytes) -> None:
    """What earlier runs needed."""
    source = Bytes(data)
    key = UsageKey("vllm-mlx", "1", "m")
    told = {"version": 1, "needed": {key.digest: 10**9, "b": 1}}
    with _scratch() as directory:
        (directory / "expectations.json").write_bytes(_noted(source, told, ("needed", "version")))
        book = UsageStore(directory)
        needed = book.needed(key)
        assert needed is None or needed >= 0
        book.record_usage(key, 5)
        book.close()


def messages(data: bytes) -> None:
    """What processes of ours say: that they are ready, that they wait, what Metal has taken."""
    source = Bytes(data)
    _is_ready(_noted(source, {"ready": True}, ("ready",)))
    with suppress(ValueError):
        process._message(_noted(source, {"stamps": {"/a": 1}}, ("stamps",)))
    metal = {"metal": {"active_memory_gb": 1.5, "cache_memory_gb": 0}}
    metal_memory(Answer(200, "application/json", _noted(source, metal, tuple(metal["metal"]))))


def metrics(data: bytes) -> None:
    """Numbers that a server tells; a part of them many times over, as who wants to hurt does."""
    source = Bytes(data)
    selector = source.choose(("a", 'a{b="c"}', "a_total", "/a/b", "/"))
    count = source.choose((1, 1, 30_000))
    first, _, rest = source.rest().partition(b"|")
    part, _, last = rest.partition(b"|")
    number = total(first + part[:8] * count + last, (selector,))
    assert number is None or number >= 0
    is_selector((first + part[:8] * count).decode("utf-8", "replace"))


def _noted(source: Bytes, told: Any, keys: Sequence[str]) -> bytes:  # noqa: ANN401
    """It with some members changed, or anything."""
    if source.byte() % 4 == 0:
        return source.rest()
    source.mutate(told, keys)
    return as_json(told)


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
                validation.keep_alive(asked)
                validation.model(asked.model)
                validation.runtime_model(asked.runtime_model)
            case pb.EvictRequest():
                validation.check_target(asked)
            case _:
                validation.page(asked)


def netlink(data: bytes) -> None:
    """The kernel's answers, which nobody forges; but a loop must end."""
    source = Bytes(data)
    kind = source.choose((sock_diag.SOCK_DIAG_BY_FAMILY, 2, 3, source.byte()))
    body = bytes([source.choose((socket.AF_INET, socket.AF_INET6, 0))]) + source.rest()
    told = sock_diag.HEADER.pack(16 + len(body), kind, 0, 0, 0) + body
    for answer in (told, data):
        with suppress(OSError):
            exact_queries._body_of(answer)
        for reader in (sock_diag.parse, sock_diag.parse_connection):
            with suppress(OSError):
                for one in sock_diag.answers(_Netlink(answer)):  # type: ignore[arg-type]
                    reader(one)


class _Netlink:
    """Tells what it was given, and then that this was all."""

    def __init__(self, told: bytes) -> None:
        self._left = [told, sock_diag.HEADER.pack(16, 3, 0, 0, 0)]

    def recv(self, _most: int) -> bytes:
        return self._left.pop(0)


@contextmanager
def _scratch() -> Iterator[Path]:
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as directory:
        yield Path(directory)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        record, health, http_answer, model_directory, weights, hub_cache, configuration, request,
        lock_note, expectations, messages, metrics, netlink,
    )
}  # fmt: skip


def everything(data: bytes) -> None:
    """All of them in one run, whose first byte says which: imports take longer than they do."""
    targets = list(TARGETS.values())
    if data:
        targets[data[0] % len(targets)](data[1:])
