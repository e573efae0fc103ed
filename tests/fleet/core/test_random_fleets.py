"""Whatever happens in a fleet in whatever order: the promises of its fronts."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pool_service.fleet.core import events as ev
from pool_service.fleet.core.values import Lead
from tests.fleet.core.scripted_fleet import Fleet, Link
from tests.fleet.core.scripted_member import ALIASES
from tests.fleet.core.watched_front import WatchedFront

NAMES = st.sampled_from(["m", "n", "o", "fast"])
MODELS = st.sampled_from(["m", "n", "o"])
FRONTS = st.integers(0, 1)
HOSTS = st.integers(0, 3)
REASONS = st.sampled_from(["POOL_FULL", "MODEL_UNKNOWN", "MODEL_NOT_ON_DISK"])
REST_S = 20.0


class RandomFleet(RuleBasedStateMachine):
    """Callers, members, the network and an engine that do all that they can."""

    @initialize(
        rooms=st.lists(st.sampled_from([None, 1, 2]), min_size=2, max_size=4),
        unreachable=st.sampled_from([None, None, None, 0]),
        fronts=st.sampled_from([1, 1, 2]),
        engine=st.booleans(),
        follows=st.booleans(),
        joins_later=st.booleans(),
        by_registry=st.booleans(),
        tells_names=st.booleans(),
    )
    def begin(
        self,
        rooms: list[int | None],
        unreachable: int | None,
        fronts: int,
        engine: bool,
        follows: bool,
        joins_later: bool,
        by_registry: bool,
        tells_names: bool,
    ) -> None:
        self.engine = engine
        members = [(room, place != unreachable) for place, room in enumerate(rooms)]
        self.fleet = Fleet(fronts, members)
        self.fleet.tells_names = tells_names
        self.fleet.by_registry = by_registry
        if joins_later:
            del self.fleet.addresses["host1"]
        for front in self.fleet.fronts:
            if not engine:
                front.feed(ev.LeadChanged(Lead(leads=True)), self.fleet.now)
            self.fleet.begin(front)
            self.fleet.pass_time(0.1)
        if engine:
            self.fleet.elect(self.fleet.fronts[0])
        if follows:
            self.all_goes_well()

    def _front(self, number: int) -> WatchedFront:
        return self.fleet.fronts[number % len(self.fleet.fronts)]

    def _host(self, number: int) -> str:
        return f"host{number % len(self.fleet.members)}"

    def _links(self, *, cut: bool) -> list[Link]:
        return [one for one in self.fleet.links if one.cut is cut]

    # --- callers --------------------------------------------------------------------------

    @rule(front=FRONTS, name=NAMES)
    def somebody_asks(self, front: int, name: str) -> None:
        self.fleet.ask(self._front(front), name)

    @rule(front=FRONTS, name=NAMES, times=st.integers(2, 3))
    def some_ask_and_all_goes_well(self, front: int, name: str, times: int) -> None:
        """What it takes to be READY is many steps, and much happens only then."""
        for _ in range(times):
            self.fleet.ask(self._front(front), name)
        self.all_goes_well()

    @rule(front=FRONTS, name=NAMES)
    def a_stranger_asks(self, front: int, name: str) -> None:
        """One who may not know the model, as each member says."""
        self.fleet.ask(self._front(front), name, by_stranger=True)

    @rule(front=FRONTS, name=NAMES, reason=REASONS, times=st.integers(1, 3))
    def a_member_refuses_what_it_has_offered(
        self, front: int, name: str, reason: str, times: int
    ) -> None:
        """And perhaps so does the next one."""
        for _ in range(2):
            self.fleet.ask(self._front(front), name)
        model = ALIASES.get(name, name)
        for _ in range(times):
            self.all_arrives(1)
            for call in self._front(front).calls.values():
                if call.seat is not None and not call.sent:
                    self.fleet.members[call.seat.host].refusing[model] = reason
        self.all_arrives(1)

    @rule(steps=st.integers(1, 3))
    def all_arrives(self, steps: int) -> None:
        """All that is on its way now; what follows from it is on its way then."""
        for _ in range(steps):
            self.fleet.go_on_once(starts=False)

    @rule(data=st.data(), front=FRONTS)
    def somebody_leaves(self, data: st.DataObject, front: int) -> None:
        calls = self._front(front).calls
        if calls:
            call = calls[data.draw(st.sampled_from(sorted(calls)))]
            self.fleet.leave(self._front(front), call)

    @rule(host=HOSTS, model=MODELS)
    def somebody_asks_a_member(self, host: int, model: str) -> None:
        if self.fleet.members[self._host(host)].runs:
            self.fleet.members[self._host(host)].use_locally(model)

    @rule(host=HOSTS)
    def they_leave_the_member(self, host: int) -> None:
        self.fleet.members[self._host(host)].leave_locally()

    # --- what is under way ------------------------------------------------------------------

    @precondition(lambda self: any(front.to_do for front in self.fleet.fronts))
    @rule(data=st.data())
    def a_front_does_one_thing(self, data: st.DataObject) -> None:
        front = data.draw(st.sampled_from([one for one in self.fleet.fronts if one.to_do]))
        place = data.draw(st.integers(0, len(front.to_do) - 1))
        self.fleet.carry_out(front, front.to_do[place])

    @precondition(lambda self: self.fleet.answering)
    @rule(data=st.data())
    def an_answer_arrives(self, data: st.DataObject) -> None:
        self.fleet.answer(data.draw(st.integers(0, len(self.fleet.answering) - 1)))

    @precondition(lambda self: any(one.on_the_way and not one.cut for one in self.fleet.links))
    @rule(data=st.data(), words=st.integers(1, 4))
    def words_of_a_member_arrive(self, data: st.DataObject, words: int) -> None:
        links = [one for one in self.fleet.links if one.on_the_way and not one.cut]
        link = links[data.draw(st.integers(0, len(links) - 1))]
        for _ in range(min(words, len(link.on_the_way))):
            if link.on_the_way:
                self.fleet.arrive(link)

    @precondition(lambda self: self.fleet.starting())
    @rule(data=st.data(), well=st.sampled_from([True, True, False]))
    def a_start_ends(self, data: st.DataObject, well: bool) -> None:
        host, model = data.draw(st.sampled_from(self.fleet.starting()))
        self.fleet.load(host, model, well=well)

    @rule(front=FRONTS, host=HOSTS)
    def a_beat_is_answered(self, front: int, host: int) -> None:
        self.fleet.beat(self._front(front), self._host(host))

    @rule()
    def all_goes_well(self) -> None:
        """For a while, with all that is not cut."""
        self.fleet.come_to_rest(1.0)

    # --- what fails -------------------------------------------------------------------------

    @rule(data=st.data(), host=HOSTS)
    def a_server_dies(self, data: st.DataObject, host: int) -> None:
        member = self.fleet.members[self._host(host)]
        if member.runs and member.servers:
            self.fleet.crash(member.host, data.draw(st.sampled_from(sorted(member.servers))))

    @rule(host=HOSTS, model=MODELS, reason=st.one_of(st.none(), REASONS))
    def a_member_starts_a_model_no_more(self, host: int, model: str, reason: str | None) -> None:
        """Or does again."""
        refusing = self.fleet.members[self._host(host)].refusing
        if reason is None:
            refusing.pop(model, None)
        else:
            refusing[model] = reason

    @rule(host=HOSTS, upgraded=st.booleans(), back=st.booleans())
    def a_member_stops(self, host: int, upgraded: bool, back: bool) -> None:
        member = self.fleet.members[self._host(host)]
        if member.runs:
            self.fleet.stop(member.host, keeps_servers=upgraded)
        if back:
            member.start()

    @precondition(lambda self: not all(one.runs for one in self.fleet.members.values()))
    @rule(data=st.data())
    def a_member_starts(self, data: st.DataObject) -> None:
        stopped = sorted(one.host for one in self.fleet.members.values() if not one.runs)
        self.fleet.members[data.draw(st.sampled_from(stopped))].start()

    @precondition(lambda self: self._links(cut=False))
    @rule(data=st.data(), noticed=st.booleans())
    def a_cable_is_cut(self, data: st.DataObject, noticed: bool) -> None:
        links = self._links(cut=False)
        link = links[data.draw(st.integers(0, len(links) - 1))]
        link.cut = True
        if noticed and link.follows:
            self.fleet.notice(link)

    @precondition(lambda self: not self._links(cut=True))
    @rule(front=FRONTS, noticed=st.booleans())
    def a_front_is_cut_off(self, front: int, noticed: bool) -> None:
        for link in self.fleet.links:
            if link.front is self._front(front):
                link.cut = True
                if noticed and link.follows:
                    self.fleet.notice(link)

    @precondition(lambda self: any(one.cut and one.follows for one in self.fleet.links))
    @rule(data=st.data())
    def a_cut_is_noticed(self, data: st.DataObject) -> None:
        links = [one for one in self.fleet.links if one.cut and one.follows]
        self.fleet.notice(links[data.draw(st.integers(0, len(links) - 1))])

    @precondition(lambda self: self._links(cut=True))
    @rule(data=st.data())
    def a_cable_is_mended(self, data: st.DataObject) -> None:
        links = self._links(cut=True)
        self.fleet.mend(links[data.draw(st.integers(0, len(links) - 1))])

    @rule()
    def all_is_mended(self) -> None:
        self.fleet.heal()
        self.all_goes_well()

    @rule(data=st.data())
    def a_front_follows_a_member(self, data: st.DataObject) -> None:
        self.fleet.follow(self.fleet.links[data.draw(st.integers(0, len(self.fleet.links) - 1))])

    @precondition(lambda self: self.engine)
    @rule(front=FRONTS)
    def another_front_leads(self, front: int) -> None:
        self.fleet.elect(self._front(front))

    # --- who the members are --------------------------------------------------------------

    @rule(host=HOSTS, is_out_between=st.booleans(), number=st.integers(1, 3))
    def a_member_is_listed(self, host: int, is_out_between: bool, number: int) -> None:
        """Where it was, or at another address."""
        name = self._host(host)
        if is_out_between and name in self.fleet.addresses:
            self.fleet.list_at("", name)
        self.fleet.list_at(f"{name}:{number}", name)

    @rule(host=HOSTS)
    def a_member_is_taken_out(self, host: int) -> None:
        if self._host(host) in self.fleet.addresses:
            self.fleet.list_at("", self._host(host))

    @rule(places=st.sets(HOSTS, min_size=2))
    def members_are_taken_out_at_once(self, places: set[int]) -> None:
        """As of a registry that has lost them."""
        hosts = {self._host(place) for place in places}
        self.fleet.list_at("", *sorted(hosts & self.fleet.addresses.keys()))

    # --- time and the end -------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0, 3.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.fleet.pass_time(seconds)

    def teardown(self) -> None:
        """Once everything is healed nobody waits, and of each model one server is left at most."""
        if not hasattr(self, "fleet"):
            return
        fleet = self.fleet
        for host in sorted(fleet.members.keys() - fleet.addresses):
            fleet.list_at(f"{host}:1", host)
        fleet.pass_time_until_listed()
        fleet.heal()
        fleet.come_to_rest(REST_S)
        for front in fleet.fronts:
            assert not front.asking, "somebody waits for ever"
        for front in fleet.fronts:
            for call in list(front.calls.values()):
                fleet.leave(front, call)
        for member in fleet.members.values():
            member.leave_locally()
        fleet.come_to_rest(REST_S)
        assert sum(front.epoch > 0 for front in fleet.fronts) == 1
        for front in fleet.fronts:
            self._assert_nothing_is_left(front)
        at = [model for one in fleet.members.values() if one.reachable for model in one.servers]
        assert len(at) == len(set(at)), "a copy is left"

    def _assert_nothing_is_left(self, front: WatchedFront) -> None:
        state = front.machine._state
        assert not state.waiting
        assert not state.seated
        assert not state.refused
        assert not state.evicting
        assert not state.rounds
        assert not state.parked
        assert not state.unsettled
        assert not any(claim.calls for claim in state.claims.values())
        assert front.machine.next_deadline() == float("inf")
        hosts = {one.host: one for one in self.fleet.members.values() if one.reachable}
        told = {(one.host, one.model) for one in front.machine.servers() if one.host in hosts}
        assert told == {(host, model) for host, one in hosts.items() for model in one.servers}


TestRandomFleet = RandomFleet.TestCase
