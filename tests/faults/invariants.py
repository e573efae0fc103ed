"""What must hold of a service whatever happens to it, its servers and its callers.

    with Invariants.of(service) as invariants:
        ...                      # torment it
        invariants.check()       # AssertionError says all that does not hold

One watcher runs along for the life of one service. While it does:
- Watch's revisions rise by one;
- a model has at most one current server, whose process is not there before the last one's is
  gone, or goes on superseded.
`check`, when the service has come to rest:
- the replay of Watch equals List;
- no process of the pool that List does not show, and one at most for each model;
- no descriptor, thread or zombie more in the service than its servers account for.

A process of the pool is known by its working directory, which only it and its descendants have.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import psutil

from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1 import pool_service_pb2_grpc as pb_grpc
from tools.demo.service import RunningService

DOCUMENTED = frozenset(
    {
        "INVALID_MODEL",
        "INVALID_RUNTIME_MODEL",
        "INVALID_KEEP_ALIVE",
        "INVALID_TARGET",
        "RUNTIME_MODEL_CONFLICT",
        "RUNTIME_UNAVAILABLE",
        "MODEL_REJECTED",
        "CRASH_LOOP",
        "START_FAILED",
        "START_TIMEOUT",
        "EVICTED",
        "SERVER_IN_USE",
        "SHUTTING_DOWN",
        "RECOVERING",
        "REVISION_COMPACTED",
    }
)
"""The reasons with which a call may fail; INTERNAL is a bug."""

GUARDS = 2
"""The guard and its sentry, which the service watches as it does its servers."""

REST_TIMEOUT = 20.0
"""Seconds. What has not come to rest by then will not; only a failure takes as long."""

_LOOK_PACE = 0.05
_REMEMBERED = 20_000
_MOVING = frozenset({pb.SERVER_STATE_STOPPING})
# Those of grpc, which come and go with its load, and the workers of asyncio: cores + 4.
_THREADS_BESIDES = 48
# The socket to it, and the file that it writes to until it has a log.
_OF_A_STANDBY = 2


@dataclass(frozen=True, slots=True)
class Seen:
    """A change, and when (time.monotonic) this process was told of it."""

    at: float
    revision: int
    server: pb.Server
    removed: bool


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a service takes of the machine.

    descriptors: without its callers' connections and what it watches; watched: the processes
    whose end it waits for, where the system shows that.
    """

    descriptors: int
    watched: int
    threads: int
    zombies: int
    memory: int


def vitals(pid: int) -> Vitals:
    """What the process takes now; memory in bytes."""
    process = psutil.Process(pid)
    descriptors = _descriptors(process)
    # A probe's connection that ends between the two looks would count as less than none.
    while descriptors != (again := _descriptors(process)):
        descriptors = again
    children = list(filter(None, map(_status, process.children())))
    return Vitals(
        descriptors=descriptors,
        watched=_watched(pid),
        threads=process.num_threads(),
        zombies=children.count(psutil.STATUS_ZOMBIE),
        memory=process.memory_info().rss,
    )


def _descriptors(process: psutil.Process) -> int:
    """Those that are no connections."""
    connections = process.net_connections("inet")
    connected = [one for one in connections if one.status != psutil.CONN_LISTEN]
    return process.num_fds() - len(connected) - _watched(process.pid)


def _watched(pid: int) -> int:
    """How many pidfds it has open, on Linux."""
    links = Path(f"/proc/{pid}/fd")
    if not links.exists():
        return 0
    found = 0
    for link in links.iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            found += str(link.readlink()) == "anon_inode:[pidfd]"
    return found


def pool_processes(state_dir: Path) -> dict[int, str]:
    """The live processes of this state directory's servers and their descendants.

    By pid, with the nonce that names the working directory which a server shares with all
    that descends from it. What stands by is no server.
    """
    root = f"{(state_dir / 'work').resolve()}/"
    found, standbys = {}, set()
    for process in psutil.process_iter():
        try:
            directory = process.cwd()
        except psutil.Error:
            continue
        if directory.startswith(root) and runs(process):
            nonce = directory.removeprefix(root).removesuffix(" (deleted)")
            output = _output(process)
            if _is_nameless(output, state_dir):
                standbys.add(nonce)
            elif output is not None:
                found[process.pid] = nonce
    # What one runs while it gets ready, such as a compiler, is no server either.
    return {pid: nonce for pid, nonce in found.items() if nonce not in standbys}


def _output(process: psutil.Process) -> str | None:
    """Return where it writes to, "" where the system does not tell.

    None of one that is about to be gone: it has no descriptors any more.
    """
    try:
        return str(Path(f"/proc/{process.pid}/fd/1").readlink())
    except FileNotFoundError:
        return None if Path("/proc/self/fd").exists() else ""
    except OSError:
        return ""


def _is_nameless(output: str | None, state_dir: Path) -> bool:
    """Whether it is what a standby writes to until it has a log: a file without a name.

    By that alone it is told, since it is so before its `exec`, too, while its arguments are those
    of the service. A log that was removed had its name in the state directory.
    """
    is_deleted = output is not None and output.endswith(" (deleted)")
    return is_deleted and not str(output).startswith(str(state_dir.resolve()))


Key = tuple[str, int]
"""A model and a generation: what a server is known by."""


def key(server: pb.Server) -> Key:
    """Return what a server is known by."""
    return server.model, server.generation


def runs(process: psutil.Process) -> bool:
    """Whether it is the same process still, and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def list_all(stub: "pb_grpc.PoolServiceStub") -> tuple[int, dict[Key, pb.Server]]:
    """A revision, and all servers as they were at it; again until no page is of another."""
    while True:
        revisions: set[int] = set()
        servers: dict[Key, pb.Server] = {}
        token = ""
        while True:
            page = stub.List(pb.ListRequest(page_size=1000, page_token=token))
            revisions.add(page.revision)
            servers |= {key(server): server for server in page.servers}
            token = page.next_page_token
            if not token:
                break
        if len(revisions) == 1:
            return revisions.pop(), servers


class Invariants:
    """A watcher of one service, from its entering to its leaving; the rules are above."""

    def __init__(self, address: str, pid: int, state_dir: Path) -> None:
        self.pid = pid
        self.state_dir = state_dir
        self.broken: list[str] = []
        """What was seen that must not be, in words."""
        self._channel = grpc.insecure_channel(
            address, options=[("grpc.use_local_subchannel_pool", 1)]
        )
        self._stub = pb_grpc.PoolServiceStub(self._channel)
        self._changed = threading.Condition()
        self._seen: deque[Seen] = deque(maxlen=_REMEMBERED)
        self._servers: dict[Key, pb.Server] = {}
        self._processes: dict[str, psutil.Process] = {}
        self._revision = 0
        self._synced = False
        self._ended = False
        self._before: Vitals | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)

    @classmethod
    def of(cls, service: RunningService) -> Self:
        """The watcher of a service that was started by demo.service."""
        return cls(service.address, service.process.pid, service.log.parent)

    def __enter__(self) -> Self:
        self._call = self._stub.Watch(pb.WatchRequest())
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._synced or self._ended)
        assert self._synced, "the service ended the watch at once"
        self._before = vitals(self.pid)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call.cancel()
        self._thread.join()
        self._channel.close()

    # --- what was seen ----------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Of the service's last change: where to `wait` from."""
        return self._stub.List(pb.ListRequest(page_size=1)).revision

    def wait(self, wanted: Callable[[Seen], bool], after: int = 0) -> Seen:
        """The first change after a revision that is wanted, once it has come.

        AssertionError if the watch ends before.
        """
        found: Seen | None = None

        def look() -> bool:
            nonlocal found
            found = next((one for one in self._seen if one.revision > after and wanted(one)), None)
            return found is not None or self._ended

        with self._changed:
            self._changed.wait_for(look)
        assert found is not None, "the watch ended before what was waited for"
        return found

    def wait_for(self, model: str, state: int, after: int = 0) -> Seen:
        """The first change after a revision by which the model's server is in this state."""
        return self.wait(
            lambda one: (
                not one.removed and _is_current(one.server, model) and one.server.state == state
            ),
            after,
        )

    def wait_removed(self, model: str, after: int = 0, *, generation: int | None = None) -> Seen:
        """The first change after a revision by which the model's server is gone.

        generation: of which, whatever it is to its model; by default the current one.
        """
        return self.wait(
            lambda one: (
                one.removed
                and (
                    _is_current(one.server, model)
                    if generation is None
                    else key(one.server) == (model, generation)
                )
            ),
            after,
        )

    def history(self, model: str) -> list[int]:
        """The states that the model's server has had, each as often as it was told."""
        with self._changed:
            return [one.server.state for one in self._seen if _is_current(one.server, model)]

    # --- checking ---------------------------------------------------------------------

    def check(self) -> None:
        """Wait until the service is at rest, and raise AssertionError for what does not hold."""
        until = time.monotonic() + REST_TIMEOUT
        while (flaws := self.flaws()) and time.monotonic() < until:
            time.sleep(_LOOK_PACE)
        broken = [*self.broken, *flaws]
        assert not broken, "; ".join(broken)

    def flaws(self) -> list[str]:
        """What does not hold at this moment; while something moves, it may in the next."""
        revision, listed = list_all(self._stub)
        return [
            *self._replay_flaws(revision, listed),
            *self._process_flaws(listed),
            *self._growth_flaws(),
        ]

    def _replay_flaws(self, revision: int, listed: dict[Key, pb.Server]) -> list[str]:
        with self._changed:
            self._changed.wait_for(lambda: self._revision >= revision or self._ended, REST_TIMEOUT)
            if self._revision != revision:
                return [f"Watch is at revision {self._revision}, List at {revision}"]
            replayed = {one: _lasting(server) for one, server in self._servers.items()}
        shown = {one: _lasting(server) for one, server in listed.items()}
        return [] if replayed == shown else [f"the replay {replayed} is not List {shown}"]

    def _process_flaws(self, listed: dict[Key, pb.Server]) -> list[str]:
        alive = pool_processes(self.state_dir)
        known = {alive[server.pid] for server in listed.values() if server.pid in alive}
        strays = {pid: nonce for pid, nonce in alive.items() if nonce not in known}
        flaws = [f"processes that List does not show: {strays}"] if strays else []
        moving = [one for one, server in listed.items() if server.state in _MOVING]
        flaws += [f"still stopping: {moving}"] if moving else []
        shown = [server.pid for server in listed.values() if server.pid]
        return flaws + ([] if len(shown) == len(set(shown)) else [f"a pid twice: {shown}"])

    def _growth_flaws(self) -> list[str]:
        assert self._before is not None
        now = vitals(self.pid)
        flaws = []
        outputs = map(_output, psutil.Process(self.pid).children())
        standbys = sum(_is_nameless(output, self.state_dir) for output in outputs)
        if now.descriptors > self._before.descriptors + _OF_A_STANDBY * standbys:
            flaws.append(
                f"{now.descriptors} descriptors, {self._before.descriptors} before, "
                f"{standbys} standing by"
            )
        if now.watched > self._live() + GUARDS:
            flaws.append(
                f"{now.watched} processes watched, {self._live()} servers, a guard and its sentry"
            )
        if now.threads > _THREADS_BESIDES:
            flaws.append(f"{now.threads} threads")
        return flaws + ([f"{now.zombies} zombies"] if now.zombies else [])

    def _live(self) -> int:
        with self._changed:
            return sum(1 for server in self._servers.values() if server.pid)

    # --- watching ---------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            for response in self._call:
                with self._changed:
                    self._receive(response, time.monotonic())
                    self._changed.notify_all()
        except grpc.RpcError:
            pass  # it was cancelled, or its service is gone
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _receive(self, response: pb.WatchResponse, now: float) -> None:
        kind = response.WhichOneof("event")
        if self._synced and response.revision != self._revision + 1:
            self.broken.append(f"revision {response.revision} followed {self._revision}")
        self._revision = response.revision
        if kind == "synced":
            self._synced = True
        elif kind == "removed":
            self._servers.pop(key(response.removed), None)
            self._seen.append(Seen(now, response.revision, response.removed, removed=True))
        else:
            self._take(response.server, response.revision, now)

    def _take(self, server: pb.Server, revision: int, now: float) -> None:
        self._servers[key(server)] = server
        self._seen.append(Seen(now, revision, server, removed=False))
        if _is_current(server, server.model):
            self._take_current(server)
        elif (known := self._processes.get(server.model)) and known.pid == server.pid:
            # Superseded: it goes on until it has drained, and its model may have the next one.
            del self._processes[server.model]

    def _take_current(self, server: pb.Server) -> None:
        current = [one for one in self._servers.values() if _is_current(one, server.model)]
        if len(current) > 1:
            self.broken.append(f"{server.model!r} has {len(current)} current servers")
        before = self._processes.get(server.model)
        if server.pid and (before is None or before.pid != server.pid):
            if before is not None and runs(before):
                self.broken.append(f"{server.model!r} has the processes {before} and {server.pid}")
            try:
                self._processes[server.model] = psutil.Process(server.pid)
            except psutil.Error:
                self._processes.pop(server.model, None)


def _is_current(server: pb.Server, model: str) -> bool:
    """Return whether it is the one that callers of the model get."""
    return server.model == model and server.role == pb.SERVER_ROLE_CURRENT


def _lasting(server: pb.Server) -> str:
    """All that every change of is told; a use by itself is not, nor what it takes of memory."""
    copy = pb.Server()
    copy.CopyFrom(server)
    copy.ClearField("last_use_time")
    copy.ClearField("expire_time")
    copy.ClearField("footprint_bytes")
    copy.ClearField("peak_bytes")
    return str(copy)


def _status(process: psutil.Process) -> str | None:
    """Return its status; None of one that has ended meanwhile."""
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None
