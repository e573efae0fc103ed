"""Counts of placings, moves and losses, fed by each event of the front's machine.

What counts
- a placing: members have made offers, and one of them gets the model;
- a move: a placing on another member than the one that was lost with the model, or refused a call;
- a call without a member: it is answered that no member takes its model, by the front or by the
  member that it is sent to for its refusal;
- a loss: a member has been silent for too long; not that the configuration lists it no more.
"""

from collections.abc import Callable, Sequence

from pool_service.core.errors import PoolError
from pool_service.fleet.core import commands as cmd
from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Lead, Presence, Seat
from pool_service.metrics.call_counts import CallCounts
from pool_service.metrics.values import OTHER, Counter

LOST, REFUSED = "lost", "refused"
"""Causes of a move."""

REFUSED_BY_ALL = "REFUSED"
"""The reason of calls that each member refuses; of all others it is the error's own."""

MAX_HOSTS = 1000
"""Hosts that have a label of their own in counters; discovery may bring new names for ever."""

MOST_LOST = 10_000
"""Models of lost members that are remembered until they are somewhere again."""

_NO_LEAD = Lead(leads=False)


class HostLabels:
    """Bounds the values of the label `host`: all hosts beyond the first MAX_HOSTS share OTHER."""

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, host: str) -> str:
        """Return the label of a host."""
        if host not in self._known:
            if len(self._known) >= MAX_HOSTS:
                return OTHER
            self._known.add(host)
        return host


class FrontCounts:
    """Counts by the events of a front and the commands that follow; `observe` receives them.

    now: returns the seconds of the front's clock.
    beats: when each member last answered a beat, by host.
    """

    def __init__(self, labels: HostLabels, now: Callable[[], float]) -> None:
        self._labels = labels
        self._now = now
        self._lead = _NO_LEAD
        self._lost: dict[str, str] = {}
        """The host that each model was lost with."""
        self._refused: set[int] = set()
        """The calls that a member has refused and that go on."""
        self.beats: dict[str, float] = {}
        self.lead_changes = 0
        self.copy_evictions = 0
        self.losses = Counter()
        self.placings = Counter()
        self.moves = Counter()
        self.unplaced = Counter()
        self.ensures = Counter()

    def observe(self, event: ev.Event, commands: Sequence[cmd.Command]) -> None:
        """Count what an event means, and the commands that follow."""
        if isinstance(event, ev.BeatAnswered):
            self.beats[event.host] = self._now()
        elif isinstance(event, ev.LeadChanged):
            self._count_lead(event.lead)
        elif isinstance(event, ev.SeatRefused):
            self._refused.add(event.request_id)
        if commands:
            self._count_sights(commands)
            self._count_answers(event, commands)
        if isinstance(event, ev.SeatLeft):
            self._refused.discard(event.request_id)

    def _count_lead(self, lead: Lead) -> None:
        before, self._lead = self._lead, lead
        if (before.leads, before.epoch, before.address) != (lead.leads, lead.epoch, lead.address):
            self.lead_changes += 1

    def _count_sights(self, commands: Sequence[cmd.Command]) -> None:
        gone = {one.host for one in commands if isinstance(one, cmd.Disconnect)}
        lost = set[str]()
        for command in commands:
            match command:
                case cmd.NotePresence(host, Presence.LOST) if host not in gone:
                    lost.add(host)
                    self.losses.add(self._labels.of(host))
                case cmd.Publish(server, removed=True) if server.host in lost and server.lives:
                    self._lose(server.model, server.host)
                case cmd.Publish(server, removed=False):
                    self._lost.pop(server.model, None)
                case cmd.EvictCopy():
                    self.copy_evictions += 1
                case _:
                    pass
        for host in gone:
            self.beats.pop(host, None)

    def _lose(self, model: str, host: str) -> None:
        self._lost[model] = host
        if len(self._lost) > MOST_LOST:
            del self._lost[next(iter(self._lost))]

    def _count_answers(self, event: ev.Event, commands: Sequence[cmd.Command]) -> None:
        placed: dict[str, str] = {}
        was_refused = False
        for command in commands:
            if not isinstance(command, cmd.Answer):
                continue
            match command.result:
                case PoolError() as error:
                    self.unplaced.add(error.reason)
                case cmd.AsRefused() | Seat(may_move=False):
                    self.unplaced.add(REFUSED_BY_ALL)
                case Seat(host, model) if isinstance(event, ev.OffersCame):
                    placed[model] = host
                    was_refused |= command.request_id in self._refused
        for model, host in placed.items():
            self._count_placing(model, host, was_refused=was_refused)

    def _count_placing(self, model: str, host: str, *, was_refused: bool) -> None:
        self.placings.add(self._labels.of(host))
        if self._lost.pop(model, host) != host:
            self.moves.add(LOST)
        elif was_refused:
            self.moves.add(REFUSED)


class ForwardCounts:
    """Counts the calls to members. The names of codes are gRPC's, or LOST."""

    def __init__(self, labels: HostLabels) -> None:
        self._labels = labels
        self.by_host = Counter()
        self.calls = CallCounts()

    def end(self, host: str, method: str, code: str, seconds: float) -> None:
        """Count a call with one response."""
        self.by_host.add(self._labels.of(host))
        self.calls.end(method, code, seconds)

    def open_stream(self, host: str, method: str) -> None:
        """Count a stream as open."""
        self.by_host.add(self._labels.of(host))
        self.calls.open_stream(method)

    def close_stream(self, method: str, code: str) -> None:
        """Count the end of a stream."""
        self.calls.close_stream(method, code)
