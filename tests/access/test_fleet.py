"""What a front's caller may do: never more than the front, and never more than itself."""

from hypothesis import given
from hypothesis import strategies as st

from pool_service.access.fleet import FleetCaller, acting_for
from pool_service.access.principal import LOCAL, UNLIMITED, ModelPatterns, Principal, Scope

NAMES = ("a", "ab", "b", "org/a", "alias", "*", "")
patterns = st.lists(st.sampled_from(["*", "a", "a*", "?b", "org/*", "alias", "["]), max_size=3)
models = patterns.map(lambda found: ModelPatterns(tuple(found)))
scopes = st.sampled_from(Scope)
fronts = st.builds(
    Principal, st.just("front"), scopes, st.booleans(), models, st.just(UNLIMITED), st.just(True)
)
callers = st.builds(FleetCaller, st.just("alice"), scopes, st.booleans(), models)
names = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)


@given(fronts, callers, names)
def test_a_caller_may_do_at_most_what_both_may(
    front: Principal, caller: FleetCaller, found: list[str]
) -> None:
    acting = acting_for(front, caller)
    assert acting.scope <= min(front.scope, caller.scope)
    assert acting.logs == (front.logs and caller.logs)
    both = front.models.allows(found) and caller.models.allows(found)
    assert acting.models.allows(found) == both
    assert acting.models.is_everything == (
        front.models.is_everything and caller.models.is_everything
    )
    assert not acting.fleet, "nobody calls for others by way of a front"
    assert acting.scope < Scope.ADMIN or acting.models.is_everything
    assert not acting.sees_all or (front.sees_all and caller.models.is_everything and caller.logs)


@given(models, models, models, names)
def test_patterns_of_three_allow_what_each_allows(
    one: ModelPatterns, two: ModelPatterns, three: ModelPatterns, found: list[str]
) -> None:
    each = all(patterns.allows(found) for patterns in (one, two, three))
    assert one.both(two).both(three).allows(found) == each
    assert one.both(two.both(three)).allows(found) == each


def test_the_audit_names_both_and_the_limits_are_the_fronts() -> None:
    caller = FleetCaller("alice", Scope.ADMIN, logs=True, models=ModelPatterns())
    acting = acting_for(LOCAL, caller)
    assert acting == Principal("local/alice", Scope.ADMIN, logs=True, limits=UNLIMITED)
    assert acting.account is None
