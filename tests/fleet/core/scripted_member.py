"""A member of a fleet as tests script it: servers, memory, a queue, and the epochs it has seen."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pool_service.fleet.core.values import Offer, Report, SeenServer, ServerState, Verdict

NEEDED_BYTES = 100
MOST_WAITING = 2
ALIASES = {"fast": "m"}

Tell = Callable[[SeenServer, bool], None]
"""Tells fronts a server, and whether it is removed."""


@dataclass(slots=True)
class Server:
    """A server. users: who uses it now: calls through fronts, and local callers ("local")."""

    model: str
    generation: int
    state: ServerState = ServerState.STARTING
    users: Counter[object] = field(default_factory=Counter)
    revision: int = 0


@dataclass(slots=True)
class Member:
    """A member. room: for how many servers; None: without a limit.

    refusing: what it does not start now, and why. waiting: the calls that wait for a server, or for
    room, by their keys. incarnation: how often it has started. failed: the calls whose server has
    failed. served: those whose server is READY now.
    """

    host: str
    tell: Tell
    room: int | None = None
    reachable: bool = True
    runs: bool = True
    incarnation: int = 1
    servers: dict[str, Server] = field(default_factory=dict)
    generations: Counter[str] = field(default_factory=Counter)
    refusing: dict[str, str] = field(default_factory=dict)
    waiting: dict[object, tuple[str, int]] = field(default_factory=dict)
    failed: list[object] = field(default_factory=list)
    served: list[object] = field(default_factory=list)
    revision: int = 0
    epoch: int = 0
    front: str = ""
    heard_at: float | None = None

    # --- what fronts ask ------------------------------------------------------------------

    def obeys(self, epoch: int, front: str, now: float) -> bool:
        """Note the epoch of a front that leads; return whether it is none of the past."""
        if epoch < self.epoch:
            return False
        if epoch > self.epoch:
            self.epoch, self.front = epoch, front
        if front == self.front:
            self.heard_at = now
        return True

    def report(self, now: float) -> Report:
        heard = None if self.heard_at is None else now - self.heard_at
        return Report(self.reachable, self.epoch, self.front, heard)

    def offer(self, name: str) -> Offer:
        model = ALIASES.get(name, name)
        free = None if self.room is None else (self.room - len(self.servers)) * NEEDED_BYTES
        unused = [one for one in self.servers.values() if self._is_unused(one)]
        if model in self.servers:
            verdict, reason = Verdict.WARM, ""
        elif model in self.refusing:
            verdict, reason = Verdict.NEVER, self.refusing[model]
        elif free is None or free > 0:
            verdict, reason = Verdict.FITS, ""
        elif unused:
            verdict, reason = Verdict.EVICTS, ""
        elif self._is_full():
            verdict, reason = Verdict.NEVER, "QUEUE_FULL"
        else:
            verdict, reason = Verdict.WAITS, ""
        return Offer(
            verdict,
            model,
            on_disk=True,
            needed=NEEDED_BYTES,
            free=free,
            evictable=len(unused) * NEEDED_BYTES,
            reason=reason,
            revision=self.revision,
        )

    def ensure(
        self, call: object, name: str, least_generation: int, *, by_stranger: bool = False
    ) -> str:
        """Let a call wait for its server; return the reason for which it is refused, or "".

        by_stranger: its caller may not know the model.
        """
        model = ALIASES.get(name, name)
        if by_stranger:
            return "MODEL_UNKNOWN"
        if model not in self.servers:
            if model in self.refusing:
                return self.refusing[model]
            if not self._has_room() and self._is_full():
                return "QUEUE_FULL"
        self.waiting[call] = model, least_generation
        self._go_on()
        return ""

    def evict(self, model: str) -> None:
        """Evict a server without force: not one in use."""
        one = self.servers.get(model)
        if one is not None and self._is_unused(one):
            self._end(one)
            self._go_on()

    def leave(self, call: object) -> None:
        self.waiting.pop(call, None)
        for one in self.servers.values():
            del one.users[call]
        self._go_on()

    # --- what happens to it ------------------------------------------------------------------

    def load(self, model: str, *, well: bool) -> None:
        """End the start of a server."""
        one = self.servers[model]
        calls = [call for call, (wanted, _) in self.waiting.items() if wanted == model]
        for call in calls:
            del self.waiting[call]
        if well:
            self._turn(one, ServerState.READY)
            one.users.update(calls)
            self.served += calls
        else:
            self._turn(one, ServerState.FAILED)
            self.failed += calls
            self._remove(one)
        self._go_on()

    def crash(self, model: str) -> None:
        """Let a server die; it starts again, as a member does for who uses it."""
        one = self.servers[model]
        self._remove(one)
        if one.users:
            self._start(model, 0).users = one.users
        self._go_on()

    def use_locally(self, model: str) -> None:
        """Start a model, if need be, for a caller that asks the member itself."""
        if model in self.servers or self._has_room():
            one = self.servers.get(model) or self._start(model, 0)
            one.users["local"] += 1

    def leave_locally(self) -> None:
        for one in self.servers.values():
            del one.users["local"]
        self._go_on()

    def stop(self, *, keeps_servers: bool) -> None:
        """End the service; its servers go on if it is only upgraded."""
        self.runs = False
        self.waiting.clear()
        if not keeps_servers:
            self.servers.clear()

    def start(self) -> None:
        """Start the service again, which counts its revisions anew."""
        self.runs = True
        self.incarnation += 1
        self.revision, self.heard_at = 1, None
        for one in self.servers.values():
            one.revision = 1

    def snapshot(self) -> tuple[SeenServer, ...]:
        return tuple(self._seen(one) for one in self.servers.values())

    # --- parts --------------------------------------------------------------------------------

    def _is_unused(self, one: Server) -> bool:
        return one.state is ServerState.READY and not +one.users

    def _is_full(self) -> bool:
        return sum(model not in self.servers for model, _ in self.waiting.values()) >= MOST_WAITING

    def _has_room(self) -> bool:
        fits = self.room is None or len(self.servers) < self.room
        return fits or any(self._is_unused(one) for one in self.servers.values())

    def _go_on(self) -> None:
        """Start what waits and has room; answer who waits for what is there."""
        for call, (model, least_generation) in list(self.waiting.items()):
            one = self.servers.get(model)
            if one is not None and one.state is ServerState.READY:
                del self.waiting[call]
                one.users[call] += 1
                self.served.append(call)
            elif one is None and self._has_room():
                self._start(model, least_generation)

    def _start(self, model: str, least_generation: int) -> Server:
        if self.room is not None and len(self.servers) >= self.room:
            self._end(next(one for one in self.servers.values() if self._is_unused(one)))
        self.generations[model] = max(self.generations[model] + 1, least_generation)
        one = self.servers[model] = Server(model, self.generations[model])
        self._turn(one, ServerState.STARTING)
        return one

    def _end(self, one: Server) -> None:
        self._turn(one, ServerState.STOPPING)
        self._remove(one)

    def _turn(self, one: Server, state: ServerState) -> None:
        self.revision += 1
        one.state, one.revision = state, self.revision
        self.tell(self._seen(one), False)

    def _remove(self, one: Server) -> None:
        self.revision += 1
        one.revision = self.revision
        del self.servers[one.model]
        self.tell(self._seen(one), True)

    def _seen(self, one: Server) -> SeenServer:
        return SeenServer(
            self.host,
            one.model,
            one.generation,
            one.state,
            needed=NEEDED_BYTES,
            revision=one.revision,
        )
