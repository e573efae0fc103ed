"""What a confined process can still do, and what a second step leaves of it."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service.adapters import children
from pool_service.adapters.children.confinement import call_filter, landlock
from pool_service.adapters.children.confinement.program_places import (
    TooWideError,
    program_places,
)

pytestmark = pytest.mark.process
confines = pytest.mark.skipif(
    bool(landlock.flaw() or call_filter.machine_flaw()),
    reason="needs Landlock, and Linux on x86_64 or aarch64",
)

PRELUDE = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from confinement.confine import Confinement
confined = Confinement(json.loads(sys.argv[2]))
def refused(path):
    try:
        open(path).close()
    except PermissionError:
        return True
    return False
"""


def run_confined(
    work_dir: Path,
    code: str,
    *arguments: str,
    readable: tuple[Path, ...] = (),
    ports: tuple[int, ...] = (0,),
    private: tuple[Path, ...] = (),
) -> str:
    """Run code in a process that has confined itself; return what it prints."""
    sent = {
        "readable": [str(path) for path in readable],
        "ports": ports,
        "private": [str(path) for path in private],
    }
    work_dir.mkdir(exist_ok=True)
    command = [sys.executable, "-S", "-c", PRELUDE + code, str(Path(children.__file__).parent)]
    result = subprocess.run(
        [*command, json.dumps(sent), *arguments],
        cwd=work_dir,
        stdin=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@confines
def test_it_works_with_its_files_and_answers_those_who_call(tmp_path: Path) -> None:
    code = """
import asyncio, ctypes, shutil, socket, ssl, subprocess, tempfile, threading
os.mkdir("own")
with open("own/part", "w") as file:
    file.write("kept")
os.rename("own/part", "whole")
os.truncate(os.open("whole", os.O_RDWR), 2)
shutil.copy("whole", "copy")
assert open("copy").read() == "ke"
shutil.copy2("whole", "own")
shutil.rmtree("own")
assert subprocess.run(["sh", "-c", "exit 7"]).returncode == 7
subprocess.run([sys.executable, "-S", "-c", "print('a helper')"], check=True)
assert os.getpriority(os.PRIO_PROCESS, 0) == 0
os.setpriority(os.PRIO_PROCESS, 0, 5)
thread = threading.Thread(target=lambda: print("a thread", flush=True))
thread.start()
thread.join()
async def answer(reader, writer):
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
os.kill(os.getpid(), 15)
"""
    command = [sys.executable, "-S", "-c", PRELUDE + code, str(Path(children.__file__).parent)]
    sent = {"readable": [], "ports": [0], "private": []}
    with subprocess.Popen(
        [*command, json.dumps(sent)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        said = [process.stdout.readline() for _ in range(2)]
        assert said == ["a helper\n", "a thread\n"]
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=60) as caller:
            caller.sendall(b"hello\n")
            assert caller.makefile().readline() == "hello\n"
        process.stdin.close()
        assert process.wait() == -15


@confines
def test_a_second_step_leaves_one_model(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for model in (own, other):
        model.mkdir()
        (model / "config.json").touch()
    code = """
own, other = sys.argv[3:]
print(refused(own), refused(other))
confined.narrow({"readable": [os.path.dirname(own)], "ports": [0]})
print(refused(own), refused(other))
import threading
thread = threading.Thread(target=lambda: print(refused(own), refused(other)))
thread.start()
thread.join()
"""
    files = str(own / "config.json"), str(other / "config.json")
    said = run_confined(tmp_path / "work", code, *files, readable=(own, other))
    assert said.splitlines() == ["False False", "False True", "False True"]


@confines
def test_a_thread_from_before_the_second_step_reads_no_more_than_the_first_permits(
    tmp_path: Path,
) -> None:
    own, secret = tmp_path / "own", tmp_path / "secret"
    own.touch()
    secret.touch()
    code = """
import threading
go, own, secret = threading.Event(), *sys.argv[3:]
before = threading.Thread(target=lambda: (go.wait(), print(refused(own), refused(secret))))
before.start()
confined.narrow({"readable": [], "ports": []})
go.set()
before.join()
"""
    said = run_confined(tmp_path / "work", code, str(own), str(secret), readable=(own,))
    first = "True" if landlock.abi() >= landlock.TSYNC_ABI else "False"
    assert said.split() == [first, "True"]


FIXING = """
import socket, threading
from confinement.fixed_address import fix_address
go, was_refused = threading.Event(), []
def makes(act):
    try:
        act()
    except PermissionError:
        was_refused.append(True)
before = threading.Thread(target=lambda: (go.wait(), makes(socket.socket)))
before.start()
spare = socket.socket()
bound = fix_address(sys.argv[3], "0")
go.set()
before.join()
makes(socket.socket)
makes(lambda: spare.bind(("127.0.0.1", 0)))
a, b = socket.socketpair()
bound.listen()
print(len(was_refused), *bound.getsockname()[:2], flush=True)
"""


@confines
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_server_listens_on_its_fixed_address_and_on_no_other_in_any_thread(
    tmp_path: Path, host: str
) -> None:
    refused, address, _ = run_confined(tmp_path / "work", FIXING, host).split()
    assert (refused, address) == ("3", host)


@confines
@pytest.mark.parametrize(("host", "port"), [("localhost", "0"), ("", ""), ("127.0.0.1", "{port}")])
def test_an_address_that_is_not_one_is_left_to_the_program(
    tmp_path: Path, host: str, port: str
) -> None:
    code = """
import socket
from confinement.fixed_address import fix_address
print(fix_address(*sys.argv[3:]))
socket.socket().bind(("127.0.0.1", 0))
"""
    assert run_confined(tmp_path / "work", code, host, port) == "None\n"


@confines
def test_an_address_that_is_taken_is_reported_as_python_does(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = "from confinement.fixed_address import fix_address; fix_address(*sys.argv[3:])"
        with pytest.raises(AssertionError, match="Address already in use"):
            run_confined(tmp_path / "work", code, "127.0.0.1", str(port), ports=(port,))


@confines
def test_where_not_all_threads_can_be_bound_this_one_and_later_ones_are(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.touch()
    code = """
from confinement import landlock
landlock.restrict(landlock.Grants(readable=("/usr",)), landlock.TSYNC_ABI)
print(refused(sys.argv[3]))
"""
    assert run_confined(tmp_path / "work", code, str(own), readable=(own,)) == "True\n"


@confines
def test_a_readable_path_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    said = run_confined(tmp_path / "work", "print(1)", readable=(tmp_path / "none" / "model",))
    assert said == "1\n"


@confines
def test_a_process_whose_modules_are_in_the_users_home_is_not_confined(tmp_path: Path) -> None:
    code = "raise SystemExit('confined')"
    with pytest.raises(AssertionError, match="ConfinementError"):
        run_confined(tmp_path / "work", code, private=(Path(os.__file__).parent,))


def test_the_places_of_the_program_are_those_of_its_interpreter_and_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    places = program_places([])
    expected = (sys.prefix, sys.base_prefix, os.__file__.rpartition("/")[0], tmp_path)
    for place in expected:
        assert any(Path(os.path.realpath(place)).is_relative_to(one) for one in places)
    assert all(Path(place).is_absolute() for place in places)


@pytest.mark.parametrize("below", [".", "state"])
def test_a_place_that_holds_what_is_private_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TooWideError, match=str(tmp_path)):
        program_places([str(tmp_path / below)])
    assert program_places([str(tmp_path) + "-elsewhere"])


def test_a_place_of_the_system_that_holds_what_is_private_is_refused() -> None:
    with pytest.raises(TooWideError, match="servers read /opt, which also holds /opt/pool/state"):
        program_places(["/opt/pool/state"])
