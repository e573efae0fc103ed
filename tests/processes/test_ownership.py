"""Claims about whose socket an endpoint is, with real processes and sockets."""

import ctypes
import errno
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from pool_service.adapters.process.identity import identity_of
from pool_service.adapters.sockets import libproc_sockets
from pool_service.adapters.sockets import ownership as module
from pool_service.adapters.sockets.exact_queries import ExactQuery, ListenerQuery
from pool_service.adapters.sockets.listeners import Listener
from pool_service.adapters.sockets.ownership import Ownership
from pool_service.core.types import EndpointState, Identity

KEPT, LOST, ENDED = EndpointState.KEPT, EndpointState.LOST, EndpointState.ENDED
pytestmark = pytest.mark.quick
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that tells it")

# Does what it is told by lines of its input, and says when that is done.
SERVER = """
import os, signal, socket, sys
host, port, shares = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "shares"
signal.signal(signal.SIGTERM, lambda *_: listener.close())
family = socket.AF_INET6 if ":" in host else socket.AF_INET
def listen():
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shares:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((host, port))
    listener.listen()
    return listener
listener, more = listen(), []
port = listener.getsockname()[1]
print(port, flush=True)
for line in sys.stdin:
    what = line.strip()
    if what == "close":
        listener.close()
    elif what == "shut":
        listener.shutdown(socket.SHUT_RDWR)
    elif what == "another":
        more.append(listen())
    elif what == "again":
        listener.close()
        listener = listen()
    elif what in ("child", "child of its own"):
        is_there, there = os.pipe()
        pid = os.fork()
        if not pid:
            if what == "child of its own":
                os.setsid()
            os.close(there)
            sys.stdin.close()
            signal.pause()
        os.close(there)
        os.read(is_there, 1)
        listener.close()
        print(pid, flush=True)
        continue
    print("done", flush=True)
"""


class Served:
    """One server, and what is asked of it."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, shares: bool = False) -> None:
        arguments = (sys.executable, "-S", "-E", "-c", SERVER, host, str(port))
        self.process = subprocess.Popen(
            (*arguments, "shares" if shares else ""),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.port = int(self._line())
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
        self.endpoint = f"http://[{shown}]:{self.port}" if ":" in host else self._v4(shown)
        identity = identity_of(self.process.pid)
        assert identity is not None
        self.identity: Identity = identity
        self.children: list[int] = []

    def _v4(self, host: str) -> str:
        return f"http://{host}:{self.port}"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, what: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        said = self._line().strip()
        if said != "done":
            self.children.append(int(said))
        return said

    def end(self) -> None:
        for pid in self.children:
            os.kill(pid, 9)
        self.process.kill()
        self.process.communicate()


@contextmanager
def served(host: str = "127.0.0.1", port: int = 0, *, shares: bool = False) -> Iterator[Served]:
    server = Served(host, port, shares=shares)
    try:
        yield server
    finally:
        server.end()


def told(ownership: Ownership, server: Served) -> tuple[EndpointState, EndpointState]:
    """What is told at once, and what after a whole look."""
    at_once = ownership.check(server.identity, server.endpoint)
    return at_once, ownership.prove(server.identity, server.endpoint)


@pytest.fixture
def by_libproc(libproc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on macOS, over a libproc that tells from /proc."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(libproc_sockets, "_libproc", lambda: libproc)
    yield
    libproc.set_refused(0, 0)


def forbid_netlink(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a sandbox."""

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))

    monkeypatch.setattr(module, "listening_sockets", forbidden)
    monkeypatch.setattr(ExactQuery, "_ask", forbidden)


@pytest.fixture(params=["asked", "netlink is forbidden", "as on macOS", "without libproc"])
def ownership(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ownership:
    if request.param == "netlink is forbidden":
        forbid_netlink(monkeypatch)
    if request.param == "as on macOS":
        request.getfixturevalue("by_libproc")
    if request.param == "without libproc":
        monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(module, "PROOF_VALID_S", 0.0)
    return Ownership()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "127.0.0.2"])
def test_a_socket_of_its_own_is_kept(ownership: Ownership, host: str) -> None:
    with served(host) as server:
        assert told(ownership, server) == (KEPT, KEPT)
        assert told(ownership, server) == (KEPT, KEPT)


@pytest.mark.parametrize("how", ["close", "shut"])
@pytest.mark.parametrize("stranger", [False, True])
def test_a_listener_that_was_closed_is_lost_whoever_has_its_port_then(
    ownership: Ownership, how: str, stranger: bool
) -> None:
    with served() as server, ExitStack() as stack:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.tell(how)
        if stranger:
            stack.enter_context(served(port=server.port))
        assert ownership.check(server.identity, server.endpoint) is LOST
        assert ownership.prove(server.identity, server.endpoint) is LOST


@on_linux
@pytest.mark.parametrize("how", ["close", "shut", "child of its own"])
@pytest.mark.parametrize("stranger", [False, True])
def test_a_loss_is_reported_at_once(how: str, stranger: bool) -> None:
    """Of a child in a session of its own nobody knows whether it serves."""
    ownership = Ownership()
    with served() as server, ExitStack() as stack:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.tell(how)
        if stranger and how != "child of its own":
            stack.enter_context(served(port=server.port))
        assert ownership.check(server.identity, server.endpoint) is LOST


@on_linux
@pytest.mark.usefixtures("by_libproc")
@pytest.mark.parametrize("how", ["close", "shut", "again"])
def test_macos_reports_a_loss_at_once_too(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However fresh a proof is that the system can repeat."""
    monkeypatch.setattr(module, "PROOF_VALID_S", 1e9)
    ownership = Ownership()
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        assert ownership.check(server.identity, server.endpoint) is KEPT
        server.tell(how)
        assert ownership.check(server.identity, server.endpoint) is (
            KEPT if how == "again" else LOST
        )


@on_linux
@pytest.mark.parametrize("where", ["on macOS", "netlink is forbidden"])
@pytest.mark.parametrize("what", ["closed", "closed and another opened"])
def test_a_proof_during_which_the_listener_was_closed_is_not_believed(
    where: str, what: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if where == "on macOS":
        request.getfixturevalue("by_libproc")
    else:
        forbid_netlink(monkeypatch)
    monkeypatch.setattr(module, "PROOF_VALID_S", 1e9)
    find, told = module._listener, ["close" if what == "closed" else "again"]
    with served() as server:

        def find_and_close(pid: int, host: str, port: int) -> Listener | None:
            found = find(pid, host, port)
            if told:
                server.tell(told.pop())
            return found

        monkeypatch.setattr(module, "_listener", find_and_close)
        state = LOST if what == "closed" else KEPT
        ownership = Ownership()
        assert ownership.prove(server.identity, server.endpoint) is state
        assert ownership.check(server.identity, server.endpoint) is state


@on_linux
@pytest.mark.usefixtures("by_libproc")
def test_what_macos_is_asked_at_a_hand_out_is_no_whole_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ownership = Ownership()
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        monkeypatch.setattr(Ownership, "prove", lambda *_: LOST)
        monkeypatch.setattr(module, "PROOF_VALID_S", 0.0)
        assert ownership.check(server.identity, server.endpoint) is KEPT


@on_linux
@pytest.mark.usefixtures("by_libproc")
def test_where_macos_gives_no_answer_a_fresh_proof_holds(
    libproc: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served() as server:
        libproc.set_refused(server.process.pid, errno.EPERM)
        ownership = Ownership()
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        monkeypatch.setattr(Ownership, "prove", lambda *_: LOST)
        assert ownership.check(server.identity, server.endpoint) is KEPT


@on_linux
def test_one_that_drains_after_a_signal_is_reported_as_lost() -> None:
    ownership = Ownership()
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.process.terminate()
        server.tell("nothing")  # It has taken the signal before.
        assert told(ownership, server) == (LOST, LOST)


def test_a_child_of_its_session_that_has_the_socket_is_the_server(ownership: Ownership) -> None:
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.tell("child")
        assert told(ownership, server) == (KEPT, KEPT)


def test_one_that_has_ended_is_reported_as_ended_and_not_as_lost(ownership: Ownership) -> None:
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.process.kill()
        os.waitid(os.P_PID, server.process.pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined,unused-ignore]
        assert told(ownership, server) == (ENDED, ENDED)


@on_linux
def test_a_stranger_that_shares_the_port_makes_the_endpoint_nobodys() -> None:
    ownership = Ownership()
    with served(shares=True) as server:
        assert told(ownership, server) == (KEPT, KEPT)
        assert ownership.is_sole(server.identity, server.endpoint)
        with served(port=server.port, shares=True):
            assert not ownership.is_sole(server.identity, server.endpoint)
            assert ownership.prove(server.identity, server.endpoint) is LOST
            assert ownership.check(server.identity, server.endpoint) is LOST


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_stranger_that_shares_the_port_is_met_by_one_of_the_short_questions(host: str) -> None:
    """Each asks as another client, and the kernel shares clients out among the sockets."""
    ownership = Ownership()
    with served(host, shares=True) as server:
        assert all(ownership.check(server.identity, server.endpoint) is KEPT for _ in range(50))
        with served(host, port=server.port, shares=True):
            told = [ownership.check(server.identity, server.endpoint) for _ in range(50)]
            assert LOST in told


@on_linux
def test_several_sockets_of_one_server_on_its_port_are_all_its_own() -> None:
    ownership = Ownership()
    with served(shares=True) as server:
        assert told(ownership, server) == (KEPT, KEPT)
        for _ in range(5):
            server.tell("another")
            assert told(ownership, server) == (KEPT, KEPT)


@on_linux
def test_a_server_that_binds_its_port_anew_keeps_it() -> None:
    ownership = Ownership()
    with served() as server:
        assert ownership.prove(server.identity, server.endpoint) is KEPT
        server.tell("again")
        assert told(ownership, server) == (KEPT, KEPT)


@on_linux
def test_without_descriptors_nobody_is_taken_to_have_lost_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def short(*_: object, **__: object) -> None:
        raise OSError(24, "Too many open files")

    ownership = Ownership()
    with served() as server:
        for name in ("listening_sockets", "listeners_by_psutil"):
            monkeypatch.setattr(module, name, short)
        assert ownership.prove(server.identity, server.endpoint) is EndpointState.UNKNOWN
        assert ownership.check(server.identity, server.endpoint) is EndpointState.UNKNOWN


@on_linux
def test_what_is_not_remembered_is_proven_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PROOFS", 1)
    ownership = Ownership()
    with served() as one, served() as other:
        for _ in range(2):
            assert ownership.check(one.identity, one.endpoint) is KEPT
            assert ownership.check(other.identity, other.endpoint) is KEPT
        assert len(ownership._proofs) == 1


@on_linux
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_short_question_names_the_socket_that_would_get_a_connection(host: str) -> None:
    question = ListenerQuery()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.bind((host, 0))
        port = listener.getsockname()[1]
        assert question.inode_at(host, port) is None, "it is bound and does not listen"
        listener.listen()
        assert question.inode_at(host, port) == os.fstat(listener.fileno()).st_ino
    assert question.inode_at(host, port) is None
    question.close()
    assert question.inode_at(host, port) is None


@on_linux
def test_what_cannot_be_asked_quickly_is_not_known_to_be_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object) -> None:
        raise OSError(93, "Protocol not supported")

    with served() as server:
        ownership = Ownership()
        assert not ownership.is_sole(server.identity, server.endpoint), "nothing is proven"
        ownership.prove(server.identity, server.endpoint)
        assert ownership.is_sole(server.identity, server.endpoint)
        assert not ownership.is_sole(server.identity, server.endpoint + "/other")
        with monkeypatch.context() as patch:
            patch.setattr(module, "_inodes_at", refused)
            assert not ownership.is_sole(server.identity, server.endpoint)
        proof = ownership._proofs[server.identity]
        with monkeypatch.context() as patch:
            patch.setattr(ownership._query, "inode_at", refused)
            assert not ownership._holds(proof)
            assert not ownership._query_finds("127.0.0.1", server.port, proof.inodes)
            proof.inodes = frozenset()
            assert ownership._holds(proof), "the descriptor still leads to the socket"
            proof.link = "socket:[1]"
            assert not ownership._holds(proof)
