"""Whatever the state of the pool: an offer changes nothing, and says what an Ensure then does."""

import pickle
from collections.abc import Callable
from io import BytesIO

from hypothesis import strategies as st
from hypothesis.stateful import rule

from pool_service.core import commands, events
from pool_service.core.commands import Answer, Command
from pool_service.core.errors import CodeNotTrusted, PoolError, QuotaExceeded
from pool_service.core.events import EnsureRequested, MemorySampled
from pool_service.core.machine import Machine
from pool_service.core.offer import Look, LookNeeded, Offer, OfferVerdict
from pool_service.core.results import Ensured
from pool_service.core.server import Phase, Server, ServerId
from pool_service.core.types import Account, Estimate, EstimateSource, MemorySample
from tests.core.test_machine_always import LATER, MODELS, RUNTIME_MODELS, Pool

ASKED = 10**6
"""The request id of an Ensure that follows an offer."""

ESTIMATE = st.builds(
    Estimate,
    expected=st.integers(0, 12),
    source=st.sampled_from([EstimateSource.WEIGHTS, EstimateSource.UNKNOWN]),
    on_disk=st.sampled_from([True, True, None, False]),
    load_s=st.sampled_from([None, 7.0]),
)
REFUSED = st.builds(CodeNotTrusted, st.just("it brings code"), model=st.just("a"))
FOUND = st.one_of(ESTIMATE, ESTIMATE, ESTIMATE, REFUSED)
ACCOUNTS = st.sampled_from([None, None, Account("engine", 0.5)])
ANY_MODEL = st.one_of(MODELS, st.just("unknown"))


def offered(machine: Machine, asked: EnsureRequested, found: Look, now: float) -> Offer:
    """Return the offer for an Ensure, which changes nothing of the machine."""
    before = pickle.dumps(machine)
    told = machine.offer(asked, None, now)
    if isinstance(told, LookNeeded):
        look = Look(told.settings, found.estimate, found.sample if told.wants_sample else None)
        told = machine.offer(asked, look, now)
    assert isinstance(told, Offer)
    assert pickle.dumps(machine) == before
    return told


def copied(machine: Machine) -> Machine:
    """Return a copy that goes its own way; errors are values, which Python cannot copy."""
    errors: list[BaseException] = []

    class Out(pickle.Pickler):
        def persistent_id(self, obj: object) -> int | None:
            if not isinstance(obj, BaseException):
                return None
            errors.append(obj)
            return len(errors) - 1

    class In(pickle.Unpickler):
        def persistent_load(self, pid: int) -> BaseException:
            return errors[pid]

    written = BytesIO()
    Out(written).dump(machine)
    written.seek(0)
    made = In(written).load()
    assert isinstance(made, Machine)
    return made


class Asking:
    """An Ensure of a machine, whose estimates have these results, until it waits or is answered."""

    def __init__(
        self, machine: Machine, asked: EnsureRequested, found: Estimate | PoolError, now: float
    ) -> None:
        self.machine = machine
        self.before = {server.id for server in machine.page(None, 1000)}
        self.answers: list[Answer] = []
        self._found = found
        self._now = now
        issued = machine.handle(asked, now)
        while (event := self._next(issued)) is not None:
            issued = machine.handle(event, now)

    def _next(self, issued: list[Command]) -> events.ServerEvent | None:
        """Return what follows for a start that has just begun; None: nothing by itself."""
        self.answers += [one for one in issued if isinstance(one, Answer)]
        for command in issued:
            match command:
                case commands.EstimateMemory(server_id) if server_id not in self.before:
                    return self._estimated(server_id)
                case commands.Fetch(server_id):
                    assert isinstance(self._found, Estimate)
                    self._found = Estimate(self._found.expected, self._found.source, on_disk=True)
                    return events.Fetched(server_id)
                case _:
                    pass
        return None

    def _estimated(self, server_id: ServerId) -> events.ServerEvent:
        if isinstance(self._found, PoolError):
            return events.EstimateFailed(server_id, self._found)
        return events.MemoryEstimated(server_id, self._found)

    @property
    def result(self) -> object:
        """What the call was answered; None if it waits."""
        return next((one.result for one in self.answers if one.request_id == ASKED), None)

    def new(self, model: str) -> Server | None:
        """The server whose start the call began."""
        found = self.machine.get(model)
        return found if found is not None and found.id not in self.before else None

    def freed_for(self, model: str) -> int:
        """The bytes of the servers that are preempted for a model."""
        rows = list(self.machine._state.table)
        going = [row.server for row in rows if row.is_preempted and row.preempted_for == model]
        return sum(max(server.reserved, 1) for server in going)


def _is_warm(asking: Asking, offer: Offer) -> None:
    assert isinstance(asking.result, Ensured | None)
    assert asking.new(offer.model) is None


def _fits(asking: Asking, offer: Offer) -> None:
    server = asking.new(offer.model)
    assert server is not None
    assert (server.phase, server.expected) == (Phase.PREPARING, offer.needed)
    assert asking.freed_for(offer.model) == 0


def _evicts(asking: Asking, offer: Offer) -> None:
    server = asking.new(offer.model)
    assert server is not None
    assert (server.phase, server.expected) == (Phase.QUEUED, offer.needed)
    assert asking.freed_for(offer.model) == offer.evicted
    assert 0 < offer.evicted <= offer.evictable


def _waits(asking: Asking, offer: Offer) -> None:
    assert asking.result is None
    assert offer.model in asking.machine._state.waiters.models()
    server = asking.new(offer.model)
    if server is not None:
        assert server.phase in {Phase.QUEUED, Phase.BACKING_OFF}
        assert asking.freed_for(offer.model) == 0


def _never(asking: Asking, offer: Offer) -> None:
    error, result = offer.error, asking.result
    assert error is not None
    if result is None:
        # First it waits: for its turn, a backoff, or the end of the model's last server.
        server = asking.new(offer.model)
        waits = Phase.QUEUED if isinstance(error, QuotaExceeded) else Phase.BACKING_OFF
        assert server is None or server.phase in {waits, Phase.BACKING_OFF}
        return
    assert isinstance(result, PoolError)
    assert (type(result), vars(result)) == (type(error), vars(error))


CHECKS: dict[OfferVerdict, Callable[[Asking, Offer], None]] = {
    OfferVerdict.WARM: _is_warm,
    OfferVerdict.FITS: _fits,
    OfferVerdict.EVICTS: _evicts,
    OfferVerdict.WAITS: _waits,
    OfferVerdict.NEVER: _never,
}


class OfferingPool(Pool):
    """The same pool, of which offers are asked for."""

    @rule(model=ANY_MODEL, runtime_model=RUNTIME_MODELS, found=FOUND, account=ACCOUNTS)
    def an_offer_is_asked_for(
        self,
        model: str,
        runtime_model: str,
        found: Estimate | PoolError,
        account: Account | None,
    ) -> None:
        """It says what the Ensure does if nothing else happens; of that a copy is asked."""
        asked = EnsureRequested(ASKED, model, runtime_model, account=account)
        now, machine = self.ledger.now, self.ledger.machine
        look = Look(machine.catalogue.settings_for(model), found, MemorySample(100, 90))
        offered(machine, asked, look, now)
        machine = copied(machine)
        if not self._sampled(machine) or self._home_is_queued(machine):
            return
        offer = offered(machine, asked, look, now)
        CHECKS[offer.verdict](Asking(machine, asked, found, now), offer)

    @rule(first=MODELS, second=MODELS, expected=st.integers(3, 10), later=LATER)
    def an_offer_is_asked_for_while_others_take_memory(
        self, first: str, second: str, expected: int, later: float
    ) -> None:
        self.somebody_ensures_and_all_goes_well(first, 400.0)
        self.somebody_ensures_and_all_goes_well(second, 400.0)
        self.ledger.reach_time(min(later, 20.0))
        needs = Estimate(expected, EstimateSource.WEIGHTS, on_disk=True)
        self.an_offer_is_asked_for("unknown", "", needs, None)

    def _sampled(self, machine: Machine) -> bool:
        """Let a memory sample begin and end, so that the Ensure takes none that tells more.

        Return whether the sample is fresh: servers may have been READY meanwhile.
        """
        sampler, now = machine._sampler, self.ledger.now
        for _ in range(3):
            if sampler.is_fresh(now):
                return True
            sampler.take(now)
            taken = {
                server.identity: server.footprint
                for server in machine.page(None, 1000)
                if server.identity is not None
            }
            left = max(100 - sum(taken.values()), 0)
            machine.handle(MemorySampled(MemorySample(100, left, footprints=taken)), now)
        return sampler.is_fresh(now)

    def _home_is_queued(self, machine: Machine) -> bool:
        """Whether the home model comes back by itself: its start gives way to any call."""
        waiters = machine._state.waiters.of(machine.catalogue.home)
        return bool(waiters) and all(one.request_id is None for one in waiters)


TestOfferingPool = OfferingPool.TestCase
