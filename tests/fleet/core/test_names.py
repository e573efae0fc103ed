"""Names: the aliases of all members together."""

from hypothesis import given
from hypothesis import strategies as st

from pool_service.fleet.core.names import Names

HOSTS = "abc"
CATALOGUES = st.dictionaries(st.sampled_from("xyz"), st.sampled_from("mn"))
TELLING = st.tuples(st.sampled_from(HOSTS), st.one_of(st.none(), CATALOGUES))
"""A member, and the meaning of each of its aliases; None: it leaves, and joins again."""


@given(st.lists(TELLING, max_size=12))
def test_of_several_meanings_that_of_the_member_counts_that_joined_first(
    told: list[tuple[str, dict[str, str] | None]],
) -> None:
    names, members = Names(), dict[str, dict[str, str]]()
    for host in HOSTS:
        names.join(host)
        members[host] = {}
    for host, meanings in told:
        if meanings is None:
            names.leave(host)
            names.join(host)
            del members[host]
        else:
            names.tell(host, meanings)
        members[host] = meanings or {}
    expected: dict[str, str] = {}
    for one in members.values():
        expected = one | expected
    assert {alias: names.resolve(alias) for alias in "xyz"} == {
        alias: expected.get(alias, alias) for alias in "xyz"
    }
    for model in "mn":
        aliases = {alias for alias, meant in expected.items() if meant == model}
        assert set(names.aliases_of(model)) == aliases


def test_a_front_forgets_what_members_that_left_have_told() -> None:
    names = Names()
    names.join("a")
    names.tell("a", {"x": "m"})
    names.leave("a")
    assert names.resolve("x") == "x"
    assert names.aliases_of("m") == ()
    assert not any(vars(names)[part] for part in ("_first", "_others", "_aliases", "_told"))
