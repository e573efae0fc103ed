"""When something is due, for many servers at the price of one timer."""

from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.deadlines import Deadlines
from pool_service.core.server import ServerId
from pool_service.core.types import FOREVER

A, B, C = (ServerId(model, 1) for model in "abc")


def test_the_earliest_deadline_is_next_and_each_is_due_once() -> None:
    deadlines = Deadlines()
    deadlines.set(B, 2.0)
    deadlines.set(A, 1.0)
    deadlines.set(C, 3.0)
    assert deadlines.next() == 1.0
    assert deadlines.pop_due(2.0) == [A, B]
    assert deadlines.pop_due(2.0) == []
    assert deadlines.next() == 3.0


def test_hasten_only_makes_earlier() -> None:
    deadlines = Deadlines()
    deadlines.set(A, 5.0)
    deadlines.hasten(A, 9.0)
    assert deadlines.next() == 5.0
    deadlines.hasten(A, 2.0)
    assert deadlines.next() == 2.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["set", "hasten", "pop"]),
            st.sampled_from([A, B, C]),
            st.sampled_from([1.0, 2.0, 3.0, 4.0, FOREVER]),
        ),
        max_size=200,
    )
)
def test_deadlines_are_a_map_with_a_minimum(steps: list[tuple[str, ServerId, float]]) -> None:
    deadlines = Deadlines()
    model: dict[ServerId, float] = {}
    for what, name, when in steps:
        if what == "set":
            deadlines.set(name, when)
            model[name] = when
        elif what == "hasten":
            deadlines.hasten(name, when)
            model[name] = min(when, model.get(name, FOREVER))
        else:
            now = min(when, 4.0)
            due = sorted((at, key) for key, at in model.items() if at <= now)
            assert deadlines.pop_due(now) == [key for _, key in due]
            for _, key in due:
                del model[key]
        assert deadlines.next() == min(model.values(), default=FOREVER)


def test_deadlines_that_move_for_ever_take_no_more_memory() -> None:
    deadlines = Deadlines()
    for n in range(10_000):
        deadlines.set(A, float(n + 1))
    assert len(deadlines._heap) < 50
