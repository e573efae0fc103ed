"""Whatever happens in whatever order: the invariants of the whole pool."""

from collections.abc import Callable
from dataclasses import replace
from itertools import count

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pool_service.core import commands, events
from pool_service.core.activity import Activity
from pool_service.core.catalogue import Catalogue
from pool_service.core.commands import SampleMemory
from pool_service.core.events import (
    DetachRequested,
    EnsureRequested,
    EvictRequested,
    HoldEnded,
    HoldRequested,
    OrphansFound,
    PinRequested,
    ReloadRequested,
    ShutdownEscalated,
    ShutdownRequested,
    WaiterLeft,
)
from pool_service.core.limits import Limits
from pool_service.core.machine import Machine
from pool_service.core.results import Every
from pool_service.core.server import Phase, Server
from pool_service.core.stall import PROGRESS_BYTES
from pool_service.core.types import FOREVER, Diagnosis, ProbeResult, Settings
from tests.core.acting import NEEDS, badly, broken, drive, drive_on, look, report, well
from tests.core.invariants import Ledger

MODELS = st.sampled_from(["a", "b", "c", "d"])
ESTIMATED = events.MemoryEstimated | events.EstimateFailed | events.Fetched
ESTIMATES = commands.EstimateMemory | commands.Fetch
"""Of what is given up nothing comes, so that they are never stale."""
RUNTIME_MODELS = st.sampled_from(["", "", "", "one", "two"])
KEEP_ALIVES = st.sampled_from([None, None, 0.0, 5.0, 400.0, FOREVER])
LEASTS = st.sampled_from([0, 0, 0, 2, 9, 40])
"""Least generations of what is started: some below those that the pool has given out itself."""
MODELS_WITH_CEILING = ("a", "b", "c")
"""Of the group of `c` there may be one at a time, so that nothing ever starts beside it."""
LATER = st.one_of(
    st.floats(0.0, 20.0, allow_nan=False), st.sampled_from([0.0, 5.0, 10.0, 60.0, 120.0, 1000.0])
)


class Pool(RuleBasedStateMachine):
    """Callers, processes and services that do all that they can, one event at a time."""

    books: type[Ledger] = Ledger

    @initialize(
        max_starts=st.integers(1, 3),
        port_attempts=st.integers(1, 3),
        grace_period=st.sampled_from([0.0, 10.0]),
        start_timeout=st.sampled_from([60.0, FOREVER]),
        own_runtime_model=st.booleans(),
        budget=st.sampled_from([FOREVER, 10.0]),
        queue_limit=st.sampled_from([2, 64]),
        groups=st.sampled_from([{}, {"g": 1}]),
        pinned=st.booleans(),
        ceilings=st.booleans(),
        home=st.sampled_from(["", "a", "c"]),
        standby=st.sampled_from([0, 2]),
    )
    def begin(  # noqa: PLR0917  # Hypothesis names them
        self,
        max_starts: int,
        port_attempts: int,
        grace_period: float,
        start_timeout: float,
        own_runtime_model: bool,
        budget: float,
        queue_limit: int,
        groups: dict[str, int],
        pinned: bool,
        ceilings: bool,
        home: str,
        standby: int,
    ) -> None:
        defaults = Settings(
            runtime_model="",
            keep_alive=30.0,
            grace_period=grace_period,
            start_timeout=start_timeout,
            stall_timeout=40.0,
        )
        models = {"a": Settings(runtime_model="one")} if own_runtime_model else {}
        for model in "cd":
            models[model] = replace(defaults, groups=("g",), download=model == "d")
        if pinned:
            models["b"] = replace(defaults, pinned=True, preload=True)
        if ceilings:
            for model in MODELS_WITH_CEILING:
                ours = models.get(model, defaults)
                models[model] = replace(ours, memory_limit=NEEDS[model] + 1)
        limits = Limits(
            max_starts,
            100.0,
            port_attempts,
            crash_limit=3,
            probe_limit=2,
            memory_budget=budget,
            queue_limit=queue_limit,
            groups=groups,
            standby=standby,
            standby_max=3,
        )
        self.catalogue = self.first_catalogue = Catalogue(defaults, models, home_model=home)
        self.ledger = self.books(lambda: Machine(self.catalogue, limits), limits)
        self.ledger.pinned = frozenset("b" if pinned else "")
        self.ledger.home = home
        self.is_past_recovery = False
        self.request_ids = count(1)
        self.past: list[events.ServerEvent] = []

    # --- callers --------------------------------------------------------------------------

    @rule(model=MODELS, runtime_model=RUNTIME_MODELS, keep_alive=KEEP_ALIVES, least=LEASTS)
    def somebody_ensures(
        self, model: str, runtime_model: str, keep_alive: float | None, least: int = 0
    ) -> None:
        asked = EnsureRequested(next(self.request_ids), model, runtime_model, keep_alive)
        self.ledger.handle(replace(asked, least_generation=least))

    @rule(model=MODELS, keep_alive=KEEP_ALIVES)
    def somebody_ensures_and_all_goes_well(self, model: str, keep_alive: float | None) -> None:
        """What it takes to be READY is many steps, and much happens only then."""
        self.somebody_ensures(model, "", keep_alive)
        drive(self.ledger)

    @rule(model=MODELS, runtime_model=RUNTIME_MODELS)
    def somebody_ensures_and_it_loads(self, model: str, runtime_model: str) -> None:
        self.somebody_ensures(model, runtime_model, None)
        for kind in (
            commands.EstimateMemory,
            commands.Fetch,
            commands.EstimateMemory,
            SampleMemory,
            commands.Prepare,
            commands.Spawn,
        ):
            if kind is SampleMemory and self.ledger.sampling:
                look(self.ledger)
            for command in self.under_way():
                if command.server_id.model == model and isinstance(command, kind):
                    self._end(command, well(self.ledger, command))

    @rule(model=MODELS, runtime_model=RUNTIME_MODELS, keep_alive=KEEP_ALIVES, least=LEASTS)
    def somebody_holds(
        self, model: str, runtime_model: str, keep_alive: float | None, least: int
    ) -> None:
        asked = HoldRequested(next(self.request_ids), model, runtime_model, keep_alive)
        self.ledger.handle(replace(asked, least_generation=least))

    @precondition(lambda self: self.ledger.holding)
    @rule(data=st.data())
    def somebody_holds_no_longer(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.ledger.holding)))
        self.ledger.handle(HoldEnded(request_id))

    @precondition(lambda self: self.ledger.sampling)
    @rule(pressured=st.booleans(), blind=st.booleans())
    def the_memory_is_looked_at(self, pressured: bool, blind: bool) -> None:
        look(self.ledger, pressured=pressured, blind=blind)

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), by=st.sampled_from([1, 2, 9]))
    def one_grows(self, data: st.DataObject, by: int) -> None:
        identity = data.draw(st.sampled_from(self.ready())).identity
        assert identity is not None
        self.ledger.grown[identity] = self.ledger.grown.get(identity, 0) + by

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), replaced=st.booleans())
    def one_outgrows_its_ceiling(self, data: st.DataObject, replaced: bool) -> None:
        """It takes a look at the memory, and nothing before, until that is known."""
        self.one_grows(data, 2)
        self.ledger.reach_time(20.0)
        if self.ledger.sampling:
            look(self.ledger)
        if replaced:
            drive(self.ledger)

    @precondition(lambda self: self.starting())
    @rule(data=st.data(), rounds=st.integers(1, 4))
    def one_loads_on(self, data: st.DataObject, rounds: int) -> None:
        """However long it takes: it reads, and samples see it."""
        server = data.draw(st.sampled_from(self.starting()))
        assert server.identity is not None
        for _ in range(rounds):
            loaded = self.ledger.loaded.get(server.identity, 0)
            self.ledger.loaded[server.identity] = loaded + PROGRESS_BYTES
            self.ledger.reach_time(15.0)
            if self.ledger.sampling:
                look(self.ledger)

    @precondition(lambda self: self.starting())
    @rule(rounds=st.integers(1, 4))
    def starts_stand_still(self, rounds: int) -> None:
        for _ in range(rounds):
            self.ledger.reach_time(15.0)
            if self.ledger.sampling:
                look(self.ledger)

    @precondition(lambda self: self.ledger.waiting)
    @rule(data=st.data())
    def somebody_gives_up(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.ledger.waiting)))
        self.ledger.handle(WaiterLeft(request_id))

    @precondition(lambda self: self.ledger.answers)
    @rule(data=st.data(), model=MODELS)
    def somebody_gives_up_too_late(self, data: st.DataObject, model: str) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.ledger.answers)))
        self.ledger.handle(WaiterLeft(request_id))

    @precondition(lambda self: self.ledger.shown)
    @rule(which=st.one_of(MODELS, st.sampled_from(Every)), force=st.booleans())
    def somebody_evicts(self, which: str | Every, force: bool) -> None:
        self.ledger.handle(EvictRequested(next(self.request_ids), which, force))

    @rule(model=MODELS, pinned=st.sampled_from([True, False, None]))
    def somebody_pins(self, model: str, pinned: bool | None) -> None:
        self.ledger.handle(PinRequested(next(self.request_ids), model, pinned))

    # --- processes --------------------------------------------------------------------------

    @precondition(lambda self: self.under_way())
    @rule(data=st.data())
    def a_step_ends_well(self, data: st.DataObject) -> None:
        command = data.draw(st.sampled_from(self.under_way()))
        self._end(command, well(self.ledger, command))

    @precondition(lambda self: self.fallible())
    @rule(data=st.data(), how=st.sampled_from([badly, broken]))
    def a_step_fails(
        self, data: st.DataObject, how: Callable[[commands.ServerCommand], events.ServerEvent]
    ) -> None:
        command = data.draw(st.sampled_from(self.fallible()))
        if isinstance(command, commands.Adopt):
            self.ledger.find_process(command.server)
        self._end(command, how(command))

    @precondition(lambda self: self.watched())
    @rule(
        data=st.data(),
        diagnosis=st.sampled_from(Diagnosis),
        code=st.sampled_from([None, 1]),
        breaks=st.sampled_from([False, False, False, False, True]),
    )
    def a_process_ends(
        self, data: st.DataObject, diagnosis: Diagnosis, code: int | None, breaks: bool
    ) -> None:
        command = data.draw(st.sampled_from(self.watched()))
        exited = events.Exited(command.server_id, report(diagnosis, code))
        self._end(command, broken(command) if breaks else exited)

    @precondition(
        lambda self: any(isinstance(c, commands.CheckActivity) for c in self.ledger.outstanding)
    )
    @rule(
        data=st.data(),
        requests=st.sampled_from([0, 1, 7, None]),
        idle_for=st.sampled_from([None, 0.0, 0.5, 1e6]),
    )
    def use_is_told(
        self, data: st.DataObject, requests: int | None, idle_for: float | None
    ) -> None:
        checks = [c for c in self.ledger.outstanding if isinstance(c, commands.CheckActivity)]
        command = data.draw(st.sampled_from(checks))
        activity = Activity(requests, idle_for)
        self._end(command, events.ActivityReported(command.server_id, activity))

    @precondition(
        lambda self: any(isinstance(c, commands.ProbeServer) for c in self.ledger.outstanding)
    )
    @rule(
        data=st.data(),
        answered=st.booleans(),
        progress=st.sampled_from([0.0, 0.0, 1.0]),
        healthy=st.booleans(),
        in_flight=st.booleans(),
        listens=st.sampled_from([True, True, True, False]),
    )
    def a_pulse_is_told(  # Hypothesis names them
        self,
        data: st.DataObject,
        answered: bool,
        progress: float,
        healthy: bool,
        in_flight: bool,
        listens: bool,
    ) -> None:
        looks = [c for c in self.ledger.outstanding if isinstance(c, commands.ProbeServer)]
        command = data.draw(st.sampled_from(looks))
        result = ProbeResult(answered, (progress,), healthy, in_flight, listens)
        self._end(command, events.ServerProbed(command.server_id, result))

    @precondition(lambda self: self.ready())
    @rule(data=st.data())
    def one_is_silent_for_long(self, data: st.DataObject) -> None:
        """It takes many looks, and nothing else in between, to be found wedged."""
        server_id = data.draw(st.sampled_from(self.ready())).id
        for _ in range(3):
            self.ledger.reach_time(15.0)
            for command in self.under_way():
                if command.server_id == server_id and isinstance(command, commands.ProbeServer):
                    self._end(command, badly(command))

    @precondition(lambda self: self.ready())
    @rule(data=st.data(), wanted=st.booleans(), comes=st.booleans())
    def one_loses_its_listener(self, data: st.DataObject, wanted: bool, comes: bool) -> None:
        """It lives on; whoever wants its model waits for the next, which may start beside it."""
        server = data.draw(st.sampled_from(self.ready()))
        self.ledger.handle(events.ListenerLost(server.id))
        if wanted:
            self.somebody_ensures(server.model, "", None)
        if comes:
            drive(self.ledger)

    @precondition(lambda self: self.past)
    @rule(data=st.data())
    def something_stale_arrives(self, data: st.DataObject) -> None:
        """An event of a generation that is over changes nothing."""
        event = data.draw(st.sampled_from(self.past))
        server = self.ledger.server_of(event.server_id)
        if isinstance(event, ESTIMATED) or isinstance(getattr(event, "command", None), ESTIMATES):
            return
        over = {Phase.QUEUED, Phase.BACKING_OFF, Phase.FAILED}
        if server is None or server.phase in over:
            before = self.ledger.servers
            if not isinstance(event, events.Spawned):
                assert self.ledger.handle(event) == []
                assert self.ledger.servers == before

    def ready(self) -> list[Server]:
        return [server for server in self.ledger.servers if server.phase is Phase.READY]

    def starting(self) -> list[Server]:
        return [server for server in self.ledger.servers if server.phase is Phase.STARTING]

    def under_way(self) -> list[commands.ServerCommand]:
        return [c for c in self.ledger.outstanding if not isinstance(c, commands.AwaitExit)]

    def fallible(self) -> list[commands.ServerCommand]:
        """Of an adoption that breaks nothing can be known but what the record says."""
        return [
            c
            for c in self.under_way()
            if not isinstance(c, commands.Adopt) or c.server.identity is not None
        ]

    def watched(self) -> list[commands.ServerCommand]:
        return [c for c in self.ledger.outstanding if isinstance(c, commands.AwaitExit)]

    def _end(self, command: commands.ServerCommand, event: events.ServerEvent | None) -> None:
        self.ledger.done(command)
        if event is not None:
            self.past.append(event)
            self.ledger.handle(event)

    # --- the service ------------------------------------------------------------------------

    @rule(data=st.data(), leaves=st.booleans(), later=LATER)
    def the_service_dies_and_returns(self, data: st.DataObject, leaves: bool, later: float) -> None:
        """At any point: what it was doing may have happened or not, what it put may be lost."""
        if leaves:
            self.ledger.handle(DetachRequested())
        for command in self.under_way():
            if isinstance(command, commands.Spawn) and (leaves or data.draw(st.booleans())):
                event = well(self.ledger, command)
                if leaves and event is not None:
                    self._end(command, event)
        for identity in self.ledger.processes.values():
            if data.draw(st.sampled_from([False, False, True])):
                self.ledger.die(identity)
        newest = len(self.ledger.journal)
        oldest = newest if leaves else self.ledger.written
        self.ledger.now += later
        self.ledger.restart(data.draw(st.integers(oldest, newest)))
        self.past = []
        self.is_past_recovery = False
        sought: list[str | None] = [
            c.server_id.model for c in self.under_way() if isinstance(c, commands.Adopt)
        ]
        model = data.draw(st.sampled_from([None, *sought]))
        if model is not None:
            self.somebody_ensures(model, "", None)

    @rule(
        config_hash=st.sampled_from(["", "", "other"]),
        only_listed=st.sampled_from([False, False, True]),
        unlisted=st.sampled_from(["", "", "a", "b"]),
        alias=st.sampled_from(["", "", "b"]),
    )
    def it_is_configured_anew(
        self, config_hash: str, only_listed: bool, unlisted: str, alias: str = ""
    ) -> None:
        first = self.first_catalogue
        models = {
            model: replace(settings, config_hash=config_hash)
            for model, settings in first.models.items()
            if model not in (unlisted, alias)
        }
        defaults = replace(first.defaults, config_hash=config_hash)
        home = first.home if models.keys() >= {first.home} or not only_listed else ""
        home = "" if home == alias else home
        aliases = {alias: "a"} if alias else {}
        self.catalogue = Catalogue(
            defaults, models, aliases, only_listed=only_listed, home_model=home
        )
        request_id = next(self.request_ids)
        self.ledger.handle(ReloadRequested(request_id, self.catalogue, self.ledger.limits))

    @precondition(lambda self: self.ledger.holding and self.ready())
    @rule()
    def what_crashed_again_is_outdated_and_then_not_listed(self) -> None:
        """By then it is to be started again, later, and nobody may have it any more."""
        self._all_crash()
        drive(self.ledger)
        self.it_is_configured_anew("other", only_listed=False, unlisted="")
        self._all_crash()
        self.it_is_configured_anew("other", only_listed=True, unlisted="a")
        self.ledger.reach_time(30.0)

    def _all_crash(self) -> None:
        for command in self.watched():
            self._end(command, events.Exited(command.server_id, report()))
        for command in self.under_way():
            if isinstance(command, commands.CleanUp):
                self._end(command, well(self.ledger, command))

    @precondition(lambda self: not self.is_past_recovery)
    @rule()
    def orphans_are_looked_for(self) -> None:
        """From now on the pool itself starts what is to be there unasked."""
        self.is_past_recovery = True
        self.ledger.handle(OrphansFound(()))

    @precondition(lambda self: self.is_past_recovery and self.ledger.home)
    @rule(model=MODELS, unused_for=st.sampled_from([6.0, 59.0, 60.0, 200.0]))
    def another_is_used_and_then_it_is_quiet(self, model: str, unused_for: float) -> None:
        """The home model comes back, or does not yet."""
        self.somebody_ensures_and_all_goes_well(model, 400.0)
        self.ledger.reach_time(unused_for)
        drive(self.ledger)

    @precondition(lambda self: self.ledger.recovering)
    @rule()
    def it_recovers(self) -> None:
        drive(self.ledger)
        assert not self.ledger.recovering

    @rule(away=st.sampled_from([6.0, 60.0, 3600.0, 90_000.0]))
    def the_service_stalls(self, away: float) -> None:
        self.ledger.stall(away)

    # --- time and the end -------------------------------------------------------------------

    @rule(later=LATER)
    def time_passes(self, later: float) -> None:
        self.ledger.reach_time(later)

    @precondition(lambda self: self.ledger.machine.next_deadline() < FOREVER)
    @rule()
    def the_next_deadline_comes(self) -> None:
        due = self.ledger.machine.next_deadline()
        # A breaking machine may have told another one when it was asked before.
        if due < FOREVER:
            self.ledger.reach_time(max(0.0, due - self.ledger.now))

    @precondition(lambda self: any(s.phase is Phase.STOPPING for s in self.ledger.servers))
    @rule()
    def somebody_hurries(self) -> None:
        self.ledger.handle(ShutdownEscalated())

    @precondition(lambda self: len(self.past) > 20)
    @rule()
    def the_service_ends(self) -> None:
        self.ledger.handle(ShutdownRequested(next(self.request_ids)))

    def teardown(self) -> None:
        """Nobody waits for ever, and after a shutdown nothing is left."""
        if not hasattr(self, "ledger"):
            return
        drive_on(self.ledger)
        assert not self.ledger.recovering
        unpinned = [s for s in self.ledger.servers if s.model not in self.ledger.pinned]
        assert {s.phase for s in unpinned} <= {Phase.READY, Phase.FAILED}, unpinned
        self.ledger.handle(ShutdownRequested(next(self.request_ids)))
        drive(self.ledger)
        assert self.ledger.evicting == {}
        assert self.ledger.servers == []
        assert self.ledger.outstanding == []
        assert self.ledger.processes == {}
        assert self.ledger.machine.next_deadline() == FOREVER


TestPool = Pool.TestCase
