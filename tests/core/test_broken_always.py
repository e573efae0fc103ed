"""Whatever breaks in whatever order: it costs one model, and nobody waits for ever."""

from contextlib import ExitStack

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from pool_service.core.types import FOREVER
from tests.core.acting import LIVELY, drive
from tests.core.breaking import PLACES, PatientLedger, breakable
from tests.core.test_machine_always import Pool


class BreakingPool(Pool):
    """The same pool, of whose transitions any may raise at any point."""

    books = PatientLedger

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.fault = self.stack.enter_context(breakable())

    @precondition(lambda self: hasattr(self, "ledger"))
    @rule(place=st.sampled_from(PLACES), at=st.integers(1, 3), late=st.booleans())
    def something_is_about_to_break(self, place: tuple[object, str], at: int, late: bool) -> None:
        self.fault.arm(place, at, late=late)

    @rule()
    def something_stale_arrives(self) -> None:
        """What it changes is for the machine that does not break."""

    @precondition(lambda self: self.ledger.recovering)
    @rule()
    def it_recovers(self) -> None:
        self.fault.disarm()
        self._wait_for_recovery()
        super().it_recovers()

    def _wait_for_recovery(self) -> None:
        """Let time pass until all is known again: a start limit where a proof broke."""
        for _ in range(LIVELY):
            drive(self.ledger)
            due = self.ledger.machine.next_deadline()
            if not self.ledger.recovering or due == FOREVER:
                return
            self.ledger.reach_time(max(0.0, due - self.ledger.now))

    def teardown(self) -> None:
        self.fault.disarm()
        try:
            if hasattr(self, "ledger"):
                self._wait_for_recovery()
            super().teardown()
        finally:
            self.stack.close()


TestBreakingPool = BreakingPool.TestCase
