"""Claims about the network that tests of fleets run in."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.fleet.hosts.namespaces import within
from tests.fleet.hosts.network import ROOT, Direction, Host, Network

PORT = 7777
LIMIT_S = 60.0
SILENCE_S = 0.5
"""How long a test listens to find that nothing comes."""

ECHO = f"""
import os, socket, sys, threading
listener = socket.create_server((sys.argv[1], {PORT}))
print(flush=True)
def echo(connection):
    while data := connection.recv(99):
        connection.sendall(data)
while True:
    threading.Thread(target=echo, args=(listener.accept()[0],), daemon=True).start()
"""

KILLED = """
import sys
from pathlib import Path
from tests.fleet.hosts.network import Network
network = Network(Path(sys.argv[1]))
awake, asleep = network.add("awake"), network.add("asleep")
pids = [one.popen(["sleep", "1000"]).pid for one in (awake, asleep)]
asleep.sleep()
print(network.switch.link, *pids, flush=True)
sys.stdin.read()
"""


@contextmanager
def datagrams(network: Network, *hosts: Host) -> Iterator[dict[str, socket.socket]]:
    """Sockets of the hosts, and of the tests, by name."""
    ends = {one.name: one.address for one in hosts} | {"": network.address}

    def bound(address: str) -> socket.socket:
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind((address, PORT))
        return one

    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                within([network.switch.namespace(name)], partial(bound, address))
            )
            for name, address in ends.items()
        }


def arrives(sockets: dict[str, socket.socket], sender: str, receiver: str) -> bool:
    """Return whether a datagram arrives."""
    sockets[receiver].settimeout(SILENCE_S)
    sent = os.urandom(8)
    try:
        sockets[sender].sendto(sent, sockets[receiver].getsockname())
        # What was sent before may come after a cut is healed.
        while sockets[receiver].recv(9) != sent:
            pass
    except OSError:
        return False
    return True


def lost(sockets: dict[str, socket.socket]) -> set[tuple[str, str]]:
    """Return the pairs of sender and receiver between which nothing arrives."""
    pairs = ((one, other) for one in sockets for other in sockets if one != other)
    return {pair for pair in pairs if not arrives(sockets, *pair)}


@contextmanager
def connection(host: Host) -> Iterator[socket.socket]:
    """A connection of the tests to a program in a host that has answered."""
    with host.popen([sys.executable, "-c", ECHO, host.address], stdout=subprocess.PIPE) as echo:
        assert echo.stdout is not None
        assert echo.stdout.readline() == "\n"
        with socket.create_connection((host.address, PORT), LIMIT_S) as one:
            assert answer(one, LIMIT_S) == b"x"
            yield one
        host.close()


def answer(one: socket.socket, limit_s: float) -> bytes | None:
    """Return what the program answers; b"": the connection has ended; None: nothing came."""
    one.settimeout(limit_s)
    try:
        one.sendall(b"x")
        return one.recv(9)
    except TimeoutError:
        return None
    except ConnectionError:
        return b""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def exists(pid: int) -> bool:
    """Return whether a process runs; not, whether somebody still has to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def namespaces_in_use() -> set[int]:
    """Return the namespaces of all processes, and the files that this one has open."""
    found = set()
    for entry in (*Path("/proc").glob("[0-9]*/ns/*"), *Path("/proc/self/fd").iterdir()):
        try:
            found.add(entry.stat().st_ino)
        except OSError:
            continue
    return found


def test_hosts_and_the_tests_reach_each_other_and_each_has_processes_of_its_own(
    network: Network,
) -> None:
    one, other = network.add("one"), network.add("other")
    with datagrams(network, one, other) as sockets:
        assert lost(sockets) == set()
    sleeper = one.popen(["sleep", "1000"])
    assert one.pids() == [sleeper.pid]
    assert other.pids() == []
    assert "sleep" not in other.run("ps", "-e").stdout
    assert one.run("sh", "-c", "exit 7").returncode == 7


def test_packets_of_one_direction_are_lost_until_it_is_healed(network: Network) -> None:
    one, other = network.add("one"), network.add("other")
    with datagrams(network, one, other) as sockets:
        one.cut_one_way(Direction.TO)
        assert lost(sockets) == {("other", "one"), ("", "one")}
        one.heal()
        one.cut_one_way(Direction.FROM)
        assert lost(sockets) == {("one", "other"), ("one", "")}
        one.heal()
        wait_for(lambda: lost(sockets) == set())
        network.switch.block("one", "other")
        assert lost(sockets) == {("one", "other")}
        network.switch.unblock("one", "other")
        one.cut()
        assert lost(sockets) == {("one", "other"), ("other", "one"), ("one", ""), ("", "one")}
        one.heal()
        wait_for(lambda: lost(sockets) == set())


@pytest.mark.parametrize("direction", Direction)
def test_an_open_connection_is_silent_when_one_direction_is_cut_and_goes_on_after(
    network: Network, direction: Direction
) -> None:
    host = network.add("one")
    with connection(host) as one:
        host.cut_one_way(direction)
        assert answer(one, SILENCE_S) is None
        host.heal()
        one.settimeout(LIMIT_S)
        assert one.recv(9) == b"x"


def test_a_killed_host_ends_its_connections_and_starts_again_at_the_same_address(
    network: Network,
) -> None:
    host = network.add("one")
    with connection(host) as one:
        (pid,) = host.pids()
        host.kill()
        assert one.recv(9) == b""
        assert not exists(pid)
    host.boot()
    with connection(host):
        pass


def test_of_a_lost_host_nothing_is_heard_until_it_has_started_again(network: Network) -> None:
    host = network.add("one")
    with connection(host) as one:
        (pid,) = host.pids()
        host.lose()
        assert not exists(pid)
        assert answer(one, SILENCE_S) is None
        host.boot()
        # The new kernel does not know the connection.
        one.settimeout(LIMIT_S)
        with pytest.raises(ConnectionResetError):
            one.recv(9)
        with connection(host):
            pass


def test_a_sleeping_host_answers_when_it_wakes_up_and_a_paused_one_when_it_goes_on(
    network: Network,
) -> None:
    host = network.add("one")
    with connection(host) as one:
        for stop, go_on in ((host.sleep, host.wake), (host.pause, host.resume)):
            stop()
            assert answer(one, SILENCE_S) is None
            go_on()
            one.settimeout(LIMIT_S)
            assert one.recv(9) == b"x"


def test_one_process_is_stopped_by_a_signal_to_its_number(network: Network) -> None:
    host = network.add("one")
    process = host.popen(["sleep", "1000"])
    process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    assert process.wait(LIMIT_S) == -signal.SIGTERM


def test_a_process_without_a_parent_is_reaped(network: Network) -> None:
    host = network.add("one")
    orphan = int(host.run("sh", "-c", "sleep 0.01 >/dev/null & echo $!").stdout)
    assert orphan > 1
    wait_for(lambda: host.pids() == [])


@pytest.mark.parametrize("offset_s", [-3600, 86400])
def test_the_clock_of_a_host_is_apart_and_its_monotonic_one_is_not(
    network: Network, offset_s: int
) -> None:
    host = network.add("one")
    host.shift_clock(offset_s)
    told = host.run(sys.executable, "-c", "import time; print(time.time(), time.monotonic())")
    wall, monotonic = map(float, told.stdout.split())
    assert 0 <= time.time() + offset_s - wall < LIMIT_S
    assert 0 <= time.monotonic() - monotonic < LIMIT_S


def test_after_a_test_that_fails_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(_FailedError) as failed:
        fail_with_hosts(tmp_path)
    link, pids, held = failed.value.args
    assert link not in links()
    assert not any(exists(pid) for pid in pids)
    assert not held & namespaces_in_use()


class _FailedError(Exception):
    pass


def fail_with_hosts(directory: Path) -> None:
    """Raise what fails, with the link, the processes and the namespaces that there were."""
    with Network(directory) as network:
        hosts = [network.add("one"), network.add("other")]
        pids = [one.popen(["sleep", "1000"]).pid for one in hosts]
        hosts[1].sleep()
        kinds = ("net", "pid", "mnt")
        held = {Path(f"/proc/{pid}/ns/{kind}").stat().st_ino for pid in pids for kind in kinds}
        assert network.switch.link in links()
        assert held < namespaces_in_use()
        raise _FailedError(network.switch.link, pids, held)


def test_after_a_run_that_is_killed_nothing_is_left(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        link, *pids = run.stdout.readline().split()
        assert link in links()
        assert all(exists(int(pid)) for pid in pids)
        run.kill()
    wait_for(lambda: link not in links())
    wait_for(lambda: not any(exists(int(pid)) for pid in pids))


def test_networks_of_several_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with Network(tmp_path / "a") as a, Network(tmp_path / "b") as b:
        for network in (a, b):
            with connection(network.add("one")):
                pass
        assert a.address != b.address
