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
