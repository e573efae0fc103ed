"""The program that downloads a model: what it looks for first, reports and cleans up."""

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pool_service.adapters.children import fetch_child
from pool_service.adapters.children.fetch_child import (
    ConnectionTest,
    bytes_on_disk,
    delete_partial_files,
    first_address,
    kind_of,
    report_progress,
)

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what the environment of the tests says of the hub and of proxies."""
    for name in (*PROXIES, "HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


# --- where it connects to -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, ("huggingface.co", 443)),
        ({"HF_ENDPOINT": ""}, ("huggingface.co", 443)),
        ({"HF_ENDPOINT": "http://hub.example"}, ("hub.example", 80)),
        ({"HF_ENDPOINT": "http://hub.example:8080"}, ("hub.example", 8080)),
        ({"https_proxy": "http://proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "proxy.example:3128"}, ("proxy.example", 3128)),
        ({"https_proxy": "socks5h://proxy.example"}, ("proxy.example", 1080)),
        ({"all_proxy": "http://proxy.example"}, ("proxy.example", 80)),
        ({"https_proxy": "http://a", "all_proxy": "http://b"}, ("a", 80)),
        ({"http_proxy": "http://proxy.example"}, ("huggingface.co", 443)),
        ({"https_proxy": "http://a", "no_proxy": "huggingface.co"}, ("huggingface.co", 443)),
        ({"HF_ENDPOINT": "hub.example"}, None),
        ({"HF_ENDPOINT": "hub.example", "all_proxy": "http://a"}, None),
        ({"HF_ENDPOINT": "ftp://hub.example"}, None),
        ({"HF_ENDPOINT": "http://[::1"}, None),
        ({"HF_HUB_OFFLINE": "1"}, None),
        ({"TRANSFORMERS_OFFLINE": "yes"}, None),
        ({"HF_HUB_OFFLINE": "0"}, ("huggingface.co", 443)),
    ],
)
def test_the_first_place_is_the_hub_or_its_proxy(
    environment: dict[str, str], place: tuple[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert first_address() == place


def connecting(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> ConnectionTest:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    return ConnectionTest()


@contextmanager
def silent() -> Iterator[int]:
    """A port whose connections are neither made nor refused: its queue is full."""
    with socket.socket() as listener, ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_a_place_that_accepts_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        connecting(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}").check()


def test_without_a_place_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    connecting(monkeypatch, "hub.example").check()


def test_a_place_that_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    with pytest.raises(ConnectionError, match=f"{unused_tcp_port} cannot be reached .Connection"):
        connecting(monkeypatch, f"http://127.0.0.1:{unused_tcp_port}").check()


def test_a_place_that_does_not_answer_is_told_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_child, "CONNECT_TIMEOUT_S", 0.05)
    with silent() as port, pytest.raises(ConnectionError, match=r"does not answer within 0\.05 s"):
        connecting(monkeypatch, f"http://127.0.0.1:{port}").check()


def resolving(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let every name have these ports of loopback as its addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_of_several_addresses_one_that_accepts_is_enough(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        resolving(monkeypatch, unused_tcp_port, unused_tcp_port, port)
        connecting(monkeypatch, "http://hub.example").check()


def test_of_several_addresses_the_last_one_that_refuses_is_told(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    resolving(monkeypatch, *[unused_tcp_port] * 3)
    with pytest.raises(ConnectionError, match=r"hub\.example:80 cannot be reached"):
        connecting(monkeypatch, "http://hub.example").check()


def test_no_more_addresses_are_tried_than_that_many(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        many = [unused_tcp_port] * fetch_child.MAX_ADDRESSES
        resolving(monkeypatch, *many, server.getsockname()[1])
        with pytest.raises(ConnectionError, match="cannot be reached"):
            connecting(monkeypatch, "http://hub.example").check()


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name not known"), "has no address .Name not known"),
        (UnicodeError("label too long"), "cannot be reached .label too long"),
        (OSError(errno.EMFILE, "Too many"), "cannot be reached .Too many"),
    ],
)
def test_a_name_without_an_address_is_told(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectionError, match=f"hub.example.* {told}"):
        connecting(monkeypatch, "http://hub.example").check()


# --- files --------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of the cache whose file `etag` was downloaded in part."""
    place = tmp_path / "models--org--name"
    (place / "blobs").mkdir(parents=True)
    (tmp_path / ".locks" / place.name).mkdir(parents=True)
    (place / "blobs" / "etag.0a1b.incomplete").write_bytes(b"123")
    return place


def test_parts_that_nobody_downloads_are_deleted_and_nothing_else(repository: Path) -> None:
    for name in ("whole", "old.incomplete"):
        (repository / "blobs" / name).touch()
    delete_partial_files(repository)
    assert {path.name for path in (repository / "blobs").iterdir()} == {"whole", "old.incomplete"}


def test_a_part_that_another_program_downloads_is_left_to_it(repository: Path) -> None:
    lock = repository.parent / ".locks" / repository.name / "etag.lock"
    with lock.open("w") as others:
        fcntl.flock(others, fcntl.LOCK_EX)
        delete_partial_files(repository)
        assert list((repository / "blobs").iterdir())
    delete_partial_files(repository)
    assert not list((repository / "blobs").iterdir())


def test_a_part_whose_lock_cannot_be_taken_is_left(repository: Path) -> None:
    (repository.parent / ".locks" / repository.name).rmdir()
    delete_partial_files(repository)
    assert list((repository / "blobs").iterdir())


def test_whole_files_and_parts_count_up_to_what_is_wanted(repository: Path) -> None:
    snapshot, blobs = repository / "snapshot", repository / "blobs"
    snapshot.mkdir()
    sizes = {"a": 10, "b": 5}
    assert bytes_on_disk(snapshot, repository / "gone", sizes) == 0
    assert bytes_on_disk(snapshot, blobs, sizes) == 3
    (snapshot / "a").touch()
    assert bytes_on_disk(snapshot, blobs, sizes) == 13
    (snapshot / "b").touch()
    assert bytes_on_disk(snapshot, blobs, sizes) == 15


class Finished:
    """Set after so many waits; before each the part has that size."""

    def __init__(self, part: Path, *sizes: int) -> None:
        self.part = part
        self.left = list(sizes)

    def wait(self, _pace: float) -> bool:
        if self.left:
            self.part.write_bytes(b"x" * self.left.pop(0))
            return False
        return True


def test_progress_is_reported_when_it_has_grown(
    repository: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    finished: Any = Finished(repository / "blobs" / "etag.0a1b.incomplete", 3, 5, 1, 5, 7)
    report_progress(repository, "commit", {"a": 10}, finished)
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert told == [{"done": done, "total": 10} for done in (3, 5, 7)]


# --- failures -----------------------------------------------------------------------------


def named(name: str, base: type[Exception] = Exception, **more: object) -> Exception:
    """An error of a library, by the name of its class."""
    error: Exception = type(name, (base,), {})("no")
    vars(error).update(more)
    return error


def caused_by(cause: Exception) -> Exception:
    error = RuntimeError("no")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (named("GatedRepoError"), "refused"),
        (named("Other", type("RepositoryNotFoundError", (Exception,), {})), "absent"),
        (ModuleNotFoundError("huggingface_hub"), "library"),
        (named("OfflineModeIsEnabled", ConnectionError), "offline"),
        (named("HTTPError", response=SimpleNamespace(status_code=403)), "refused"),
        (named("HTTPError", response=SimpleNamespace(status_code=404)), "absent"),
        (named("HTTPError", response=SimpleNamespace(status_code=500)), "network"),
        (named("HTTPError"), "network"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "network"),
        (TimeoutError(), "network"),
        (OSError(errno.ENOSPC, "full"), "disk"),
        (OSError(errno.EDQUOT, "full"), "disk"),
        (PermissionError(errno.EACCES, "no"), "place"),
        (OSError(errno.EIO, "broken"), "other"),
        (RuntimeError("Data processing error: No space left on device"), "disk"),
        (ValueError("Invalid IPv6 URL"), "endpoint"),
        (caused_by(OSError(errno.ENOSPC, "full")), "disk"),
        (caused_by(caused_by(named("GatedRepoError"))), "refused"),
        (ValueError("anything else"), "other"),
    ],
)
def test_the_kind_of_a_failure_is_known_by_its_class_status_number_or_words(
    failure: Exception, kind: str
) -> None:
    assert kind_of(failure) == kind


# --- the program --------------------------------------------------------------------------

LIBRARY = """
import errno, os, pathlib, types

SIBLINGS = {siblings}
constants = types.SimpleNamespace(HF_HUB_CACHE=os.environ["CACHE"])


class HfApi:
    def model_info(self, model, files_metadata):
        siblings = [types.SimpleNamespace(rfilename=n, size=s) for n, s in SIBLINGS.items()]
        return types.SimpleNamespace(sha="commit", siblings=siblings)


def snapshot_download(model, allow_patterns):
    {body}
    snapshot = pathlib.Path(os.environ["CACHE"], "models--org--name/snapshots/commit")
    snapshot.mkdir(parents=True)
    for name in {arrives}:
        snapshot.joinpath(name).write_bytes(b"x" * (SIBLINGS[name] or 0))
    return str(snapshot)
"""


class Program:
    """The program, with a stand-in for huggingface_hub."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.siblings: dict[str, int | None] = {"config.json": 2, "model.bin": 9}

    def start(self, body: str = "pass", arrives: tuple[str, ...] = ("config.json",)) -> Any:  # noqa: ANN401
        text = LIBRARY.format(siblings=self.siblings, body=body, arrives=arrives)
        (self.root / "huggingface_hub.py").write_text(textwrap.dedent(text))
        return subprocess.Popen(
            [sys.executable, "-S", fetch_child.__file__, "org/name"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={
                "PYTHONPATH": str(self.root),
                "CACHE": str(self.root / "cache"),
                "HF_HUB_OFFLINE": "1",
            },
        )

    def run(self, *given: Any) -> tuple[list[Any], int]:  # noqa: ANN401 - as of `start`
        """What it says, and its exit code."""
        with self.start(*given) as process:
            said = [json.loads(line) for line in process.stdout]
            return said, process.wait()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def test_it_tells_its_progress_and_at_last_that_all_is_there(program: Program) -> None:
    program.siblings["tokenizer.json"] = None
    said, code = program.run("pass", ("config.json", "tokenizer.json"))
    assert (said[-2:], code) == ([{"done": 2, "total": 2}, {"ok": True}], 0)
    assert {each["total"] for each in said[:-1]} == {2}


def test_a_part_that_an_earlier_download_left_is_deleted_first(program: Program) -> None:
    part = program.root / "cache/models--org--name/blobs/etag.0a1b.incomplete"
    part.parent.mkdir(parents=True)
    (program.root / "cache/.locks/models--org--name").mkdir(parents=True)
    part.write_bytes(b"12345")
    assert program.run()[1] == 0
    assert not part.exists()


def test_a_file_that_has_not_arrived_is_a_failure(program: Program) -> None:
    said, code = program.run("pass", ())
    told = {"error": "config.json has not arrived", "kind": "network"}
    assert (said[-1], code) == (told, 1)


@pytest.mark.parametrize(
    ("body", "error", "kind"),
    [
        ("raise OSError(errno.ENOSPC, 'full')", f"[Errno {errno.ENOSPC}] full", "disk"),
        ("raise ValueError('first\\nsecond')", "first", "other"),
        ("raise ValueError", "ValueError", "other"),
        ("raise ValueError('x' * 1000)", "x" * 500, "other"),
    ],
)
def test_a_failure_is_told_in_one_line(program: Program, body: str, error: str, kind: str) -> None:
    said, code = program.run(body)
    assert (said[-1], code) == ({"error": error, "kind": kind}, 1)


def test_when_nobody_waits_any_more_it_becomes_the_program_that_clears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    became, reads = list[object](), iter([b"x", b""])
    monkeypatch.setattr(os, "read", lambda *_: next(reads))
    monkeypatch.setattr(os, "execv", lambda *given: became.append(given))
    fetch_child.clear_at_end_of_input("org/name")
    command = [sys.executable, "-I", fetch_child.__file__, "org/name", "clear"]
    assert became == [(sys.executable, command)]


def test_the_program_that_clears_downloads_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["fetch_child.py", "org/name", "clear"])
    monkeypatch.setattr(fetch_child, "repository_of", lambda _model: repository)
    fetch_child.main()
    assert not list((repository / "blobs").iterdir())
