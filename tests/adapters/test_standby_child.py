"""What a standby does ahead, what it tells the service, and how it becomes a server."""

import asyncio
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pool_service.adapters.children import standby_child
from pool_service.adapters.children.server_child import collect_garbage_rarely, patch_startup
from pool_service.adapters.children.standby_child import (
    Channel,
    import_ahead,
    notify_when_ready,
    prepare,
    stamps,
    warm_up,
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, Channel]]:
    """The service's end, and the standby's channel."""
    ours, its = socket.socketpair()
    with ours, its:
        ours.settimeout(60)
        yield ours, Channel(its)


Pair = tuple[socket.socket, Channel]


def messages(ours: socket.socket) -> list[Any]:
    """What the standby has sent, once it has closed its end."""
    received = b""
    while chunk := ours.recv(65536):
        received += chunk
    return [json.loads(line) for line in received.splitlines()]


# --- the channel --------------------------------------------------------------------------


def test_it_is_told_when_the_service_has_sent_something_or_is_gone(pair: Pair) -> None:
    ours, channel = pair
    told = [channel.has_input]
    ours.sendall(b"{")
    told.append(channel.has_input)
    assert channel._end.recv(1) == b"{"
    told.append(channel.has_input)
    ours.close()
    told.append(channel.has_input)
    assert told == [False, True, False, True]


def test_an_order_comes_in_pieces_with_its_descriptor(pair: Pair, tmp_path: Path) -> None:
    ours, channel = pair
    with (tmp_path / "log").open("w") as log:
        socket.send_fds(ours, [b'{"variables": {"V": "1"}, "argv": ["serve", '], [log.fileno()])
        ours.sendall(b'"m"], "key": "psk_x"}\n')
        order = channel.receive_arguments()
        assert order is not None
        message, descriptor = order
        assert message == {"argv": ["serve", "m"], "variables": {"V": "1"}, "key": "psk_x"}
        assert os.path.samestat(os.fstat(descriptor), os.fstat(log.fileno()))
        os.close(descriptor)


def test_there_is_no_order_from_a_service_that_is_gone(pair: Pair) -> None:
    ours, channel = pair
    ours.sendall(b'{"argv": [')
    ours.close()
    assert channel.receive_arguments() is None


def test_what_is_told_is_one_line_of_json_and_nothing_to_a_service_that_is_gone(
    pair: Pair,
) -> None:
    ours, channel = pair
    channel.send(warm=True, working_set=7)
    assert ours.recv(100) == b'{"warm": true, "working_set": 7}\n'
    ours.close()
    channel.send(taken=True)
    channel.close()
    assert channel._end.fileno() == -1


@pytest.mark.parametrize("by", ["the end of the work", "an order"])
def test_a_wait_ends_by_whatever_comes_first(pair: Pair, by: str) -> None:
    ours, channel = pair
    reader, writer = os.pipe()
    try:
        if by == "an order":
            ours.sendall(b"{")
        else:
            os.write(writer, b"x")
        channel.wait(reader)
    finally:
        os.close(reader)
        os.close(writer)


# --- ahead --------------------------------------------------------------------------------


def test_the_times_of_the_places_that_it_imports_from_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vllm-mlx"
    program.touch()
    os.utime(program, ns=(1, 123_456_789))
    monkeypatch.setattr(sys, "argv", ["standby_child.py", str(program)])
    monkeypatch.setattr(
        sysconfig, "get_path", lambda name: str(tmp_path / ("gone" if name == "platlib" else ""))
    )
    assert stamps() == {
        str(program): 123_456_789,
        str(tmp_path): tmp_path.stat().st_mtime_ns,
    }


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose modules are imported ahead: `ahead_one`, `ahead_two`, `ahead_late`."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(standby_child, "MODULES", ["ahead_one", "ahead_two"])
    monkeypatch.setattr(standby_child, "LATE_MODULES", ["no_such_module", "ahead_late"])
    monkeypatch.setattr(standby_child, "lower_priority", lambda: None)
    names = ("ahead_one", "ahead_two", "ahead_late")
    for name in names:
        (tmp_path / f"{name}.py").touch()
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield tmp_path
    for name in names:
        sys.modules.pop(name, None)


def imported_ahead(channel: Channel) -> list[Exception]:
    """Import the modules; return what failed, once the end was told."""
    reader, writer = os.pipe()
    failures: list[Exception] = []
    import_ahead(channel, writer, failures)
    assert os.read(reader, 1) == b"", "its end is closed"
    os.close(reader)
    return failures


@pytest.mark.usefixtures("modules")
def test_all_modules_are_imported_while_there_is_no_order(pair: Pair) -> None:
    assert imported_ahead(pair[1]) == []
    assert {"ahead_one", "ahead_two"} <= sys.modules.keys()


@pytest.mark.usefixtures("modules")
def test_a_late_module_that_this_version_lacks_is_left_out(pair: Pair) -> None:
    assert imported_ahead(pair[1]) == []
    assert "no_such_module" not in sys.modules
    assert "ahead_late" in sys.modules


def test_a_late_module_that_does_not_fit_this_version_is_no_failure(
    pair: Pair, modules: Path
) -> None:
    for error in ("AttributeError", "TypeError", "ImportError"):
        (modules / "ahead_late.py").write_text(f"raise {error}")
        assert imported_ahead(pair[1]) == []


def test_no_further_module_is_imported_when_there_is_an_order(pair: Pair, modules: Path) -> None:
    ours, channel = pair
    source = f"import socket\nwith socket.socket(fileno={os.dup(ours.fileno())}) as service:"
    (modules / "ahead_one.py").write_text(f"{source} service.sendall(b'x')")
    assert imported_ahead(channel) == []
    assert "ahead_one" in sys.modules
    assert "ahead_two" not in sys.modules


def test_a_module_that_cannot_be_imported_is_a_failure(pair: Pair, modules: Path) -> None:
    (modules / "ahead_one.py").write_text("raise ImportError('half installed')")
    (failure,) = imported_ahead(pair[1])
    assert "half installed" in str(failure)
    assert "ahead_two" not in sys.modules


@pytest.fixture
def rehearsals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often it was rehearsed, in place of doing so."""
    done = list[str]()
    monkeypatch.setitem(sys.modules, "numpy", ModuleType("numpy"))
    monkeypatch.setattr(standby_child, "warm_up", lambda: done.append("rehearsed"))
    return done


@pytest.mark.usefixtures("modules")
def test_without_an_order_it_rehearses(pair: Pair, rehearsals: list[str]) -> None:
    before = set(os.listdir("/dev/fd"))  # noqa: PTH208 - the names
    prepare(pair[1])
    assert rehearsals == ["rehearsed"]
    assert set(os.listdir("/dev/fd")) == before, "nothing is left open"  # noqa: PTH208


@pytest.mark.usefixtures("modules")
def test_with_an_order_it_does_not_rehearse(pair: Pair, rehearsals: list[str]) -> None:
    pair[0].sendall(b"{")
    prepare(pair[1])
    assert rehearsals == []


def test_a_failure_ahead_is_raised(pair: Pair, modules: Path, rehearsals: list[str]) -> None:
    (modules / "ahead_two.py").write_text("raise ValueError('not like this')")
    with pytest.raises(ValueError, match="not like this"):
        prepare(pair[1])
    assert rehearsals == []


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is asked of the garbage collector, in place of doing so."""
    done = list[str]()
    for name in ("collect", "freeze"):
        monkeypatch.setattr(gc, name, lambda name=name: done.append(name))
    return done


@pytest.mark.parametrize("fails", [False, True])
def test_a_rehearsal_leaves_nothing_of_its_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: list[str], fails: bool
) -> None:
    def written(directory: Path) -> None:
        (directory / "config.json").touch()

    def generated(directory: str) -> None:
        assert (Path(directory) / "config.json").exists()
        if fails:
            raise ValueError("not like this")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(standby_child, "write_checkpoint", written)
    monkeypatch.setattr(standby_child, "generate", generated)
    if fails:
        with pytest.raises(ValueError, match="not like this"):
            warm_up()
    else:
        warm_up()
        assert frozen == ["collect", "freeze"], "what is imported is not looked through again"
    assert list(tmp_path.iterdir()) == []


# --- as a server --------------------------------------------------------------------------


class Server:
    """Uvicorn's, which starts up."""

    def __init__(self, *, started: bool) -> None:
        self.started = started
        self.handler: object = None
        self.gc_threshold = 0

    async def startup(self, sockets: object = None) -> None:
        assert sockets == "sockets"
        self.handler = signal.getsignal(signal.SIGTERM)
        self.gc_threshold = gc.get_threshold()[0]


@pytest.mark.parametrize("started", [False, True])
def test_a_server_says_that_it_is_ready_if_it_listens_and_then_lets_go_of_the_service(
    pair: Pair, started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, channel = pair
    fresh = type("Fresh", (Server,), {"startup": Server.startup})
    uvicorn = ModuleType("uvicorn")
    vars(uvicorn)["Server"] = fresh
    monkeypatch.setitem(sys.modules, "uvicorn", uvicorn)
    usual = gc.get_threshold()
    assert collect_garbage_rarely() == usual
    patch_startup(usual)
    notify_when_ready(channel)
    server = fresh(started=started)

    def uvicorns(_number: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, uvicorns)
    try:
        asyncio.run(server.startup(sockets="sockets"))
        assert signal.getsignal(signal.SIGTERM) is uvicorns, "it drains from then on"
        assert gc.get_threshold() == usual, "garbage is collected as usual from then on"
    finally:
        signal.signal(signal.SIGTERM, before)
        gc.set_threshold(*usual)
    assert server.handler == signal.SIG_DFL, "a load ends at once"
    assert server.gc_threshold > 10 * usual[0], "imported code is seldom looked through"
    assert messages(ours) == ([{"ready": True}] if started else [])


WRITES = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("standby_child", sys.argv[1])
child = importlib.util.module_from_spec(spec)
spec.loader.exec_module(child)
sys.stdout.write("ahead")
sys.stderr.write("ahead, too")
log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
child.redirect_output(log)
sys.stdout.write("later")
sys.stdout.flush()
sys.stderr.write("and more")
sys.stderr.flush()
try:
    os.fstat(log)
except OSError:
    os.write(1, b"!")
"""


def test_only_what_it_writes_from_then_on_is_in_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    ended = subprocess.run(
        [sys.executable, "-S", "-E", "-c", WRITES, standby_child.__file__, str(log)],
        capture_output=True,
        check=True,
    )
    assert (ended.stdout, ended.stderr) == (b"ahead", b"ahead, too")
    assert log.read_bytes() == b"laterand more!"


MAIN = """
import json, os, sys
def main():
    descriptors = {name for name in os.listdir("/dev/fd") if is_open(int(name))}
    told = dict(argv=sys.argv, path=sys.path, stdin=sys.stdin.read(), open=len(descriptors))
    print(json.dumps(told))
    return 3
def is_open(descriptor):
    try:
        return os.fstat(descriptor)
    except OSError:
        return False
"""
UVICORN = "class Server:\n    async def startup(self, sockets=None): ...\n"
STREAMS_AND_CHANNEL = 4


def test_a_process_of_it_becomes_the_server_that_its_arguments_name(tmp_path: Path) -> None:
    (tmp_path / "vllm_mlx").mkdir()
    (tmp_path / "vllm_mlx" / "cli.py").write_text(MAIN)
    (tmp_path / "uvicorn").mkdir()
    (tmp_path / "uvicorn" / "__init__.py").write_text(UVICORN)
    (tmp_path / "uvicorn" / "config.py").write_text("class Config:\n    def load(self): ...\n")
    child = Path(standby_child.__file__)
    ours, its = socket.socketpair()
    ours.settimeout(60)
    with ours, (tmp_path / "log").open("w") as log:
        # The arguments are there from the start, so it does nothing ahead.
        socket.send_fds(ours, [b'{"argv": ["vllm-mlx", "serve", "m"]}\n'], [log.fileno()])
        with its:
            process = subprocess.Popen(
                [sys.executable, "-S", str(child), str(tmp_path / "vllm-mlx")],
                env={"PYTHONPATH": str(tmp_path)},
                stdin=its.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        said, _ = process.communicate(timeout=60)
        assert (said, process.returncode) == (b"", 3), (tmp_path / "log").read_text()
        told = json.loads((tmp_path / "log").read_text())
        assert told["argv"] == ["vllm-mlx", "serve", "m"]
        assert told["stdin"] == ""
        assert str(child.parent) not in told["path"]
        assert told["open"] == STREAMS_AND_CHANNEL
        assert [set(one) for one in messages(ours)] == [{"stamps"}, {"taken"}]


def test_a_process_of_it_ends_with_its_service(tmp_path: Path) -> None:
    ours, its = socket.socketpair()
    with its:
        ours.close()
        ended = subprocess.run(
            [sys.executable, "-S", standby_child.__file__, str(tmp_path / "vllm-mlx")],
            stdin=its.fileno(),
            capture_output=True,
            check=False,
        )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")


def test_a_module_whose_import_has_begun_is_waited_for(
    pair: Pair, modules: Path, rehearsals: list[str]
) -> None:
    ours, channel = pair
    source = f"import socket, time\nwith socket.socket(fileno={os.dup(ours.fileno())}) as service:"
    (modules / "ahead_one.py").write_text(
        f"{source} service.sendall(b'x')\ntime.sleep(0.05)\nis_whole = True"
    )
    prepare(channel)
    assert vars(sys.modules["ahead_one"])["is_whole"]
    assert rehearsals == []
