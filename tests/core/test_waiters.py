"""Who waits for which model."""

from pool_service.core.types import Settings
from pool_service.core.waiters import Waiter, Waiters

SETTINGS = Settings(runtime_model="org/m")


def test_waiters_are_kept_in_the_order_in_which_they_came() -> None:
    waiting = Waiters()
    for request_id in (3, 1, 2):
        waiting.add("m", Waiter(request_id, "", SETTINGS, None, starts=False))
    assert waiting.leave(3) == "m"
    assert waiting.leave(99) is None
    first = waiting.first("m")
    assert first is not None
    assert first.request_id == 1
    assert len(waiting) == 2
    assert [wait.request_id for wait in waiting.take("m")] == [1, 2]
    assert (len(waiting), waiting.first("m"), waiting.take("m")) == (0, None, [])


def test_the_pools_own_request_is_withdrawn_and_the_others_wait_on() -> None:
    waiting = Waiters()
    for request_id in (None, 1):
        waiting.add("m", Waiter(request_id, "", SETTINGS, None, starts=False))
    waiting.add("n", Waiter(None, "", SETTINGS, None, starts=False))
    for model in ("m", "n", "unknown"):
        waiting.withdraw(model)
    assert [wait.request_id for wait in waiting.of("m")] == [1]
    assert waiting.models() == ["m"]
