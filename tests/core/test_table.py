"""The servers, their marks, and the indexes over both."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.activity import SeenUse
from pool_service.core.errors import StartTimeout
from pool_service.core.liveness import Liveness
from pool_service.core.server import Phase, Role, Server, ServerId
from pool_service.core.stall import after_sample
from pool_service.core.table import Row, ServerTable, TimedOut
from pool_service.core.types import Identity, Settings

SETTINGS = Settings(runtime_model="org/m")


def server(model: str = "m", phase: Phase = Phase.QUEUED) -> Server:
    return Server(model, SETTINGS, phase, 1, 0.0, 0.0, 300.0)


def test_pages_are_in_the_order_of_the_models_utf8() -> None:
    table = ServerTable()
    models = ["b", "a/b", "a", "Z", "é", "\U0001f600", "\uffff", "a b"]
    for model in models:
        table.put(server(model))
    expected = sorted(models, key=str.encode)
    assert [row.server.model for row in table] == expected
    assert [s.model for s in table.page(ServerId(expected[2], 1), 3)] == expected[3:6]
    assert table.page(ServerId(expected[-1], 1), 3) == []


def test_a_page_goes_on_after_a_model_that_is_gone() -> None:
    table = ServerTable()
    for model in "ace":
        table.put(server(model))
    table.remove(ServerId("c", 1))
    assert [s.model for s in table.page(ServerId("c", 1), 5)] == ["e"]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([*Phase, None]))))
def test_counts_equal_the_servers(steps: list[tuple[str, Phase | None]]) -> None:
    table = ServerTable()
    for model, phase in steps:
        if phase is not None:
            table.put(server(model, phase))
        elif table.find(ServerId(model, 1)):
            table.remove(ServerId(model, 1))
    for phase in Phase:
        assert table.count({phase}) == sum(row.server.phase is phase for row in table)
    assert table.count(set(Phase)) == len(table)


# --- roles --------------------------------------------------------------------------------


def test_a_model_has_one_current_server_and_the_others_are_beside_it() -> None:
    table = ServerTable()
    assert not table.has_any_beside
    table.put(server())
    table.put(replace(server(), generation=2, role=Role.SUCCESSOR))
    assert _ids(table.beside("m")) == [2]
    table.put(replace(server(), role=Role.SUPERSEDED))
    table.put(replace(server(), generation=2, role=Role.CURRENT))
    current = table.current("m")
    assert current is not None
    assert current.server.generation == 2
    assert _ids(table.beside("m")) == _ids(table.all_beside) == [1]
    table.remove(ServerId("m", 1))
    assert (table.beside("m"), table.has_any_beside) == ([], False)
    table.remove(ServerId("m", 2))
    assert table.current("m") is None


def test_a_server_that_is_no_longer_current_does_not_take_the_next_ones_place() -> None:
    table = ServerTable()
    table.put(server())
    table.put(replace(server(), generation=2))
    table.remove(ServerId("m", 1))
    current = table.current("m")
    assert current is not None
    assert current.server.generation == 2


def _ids(rows: list[Row]) -> list[int]:
    return [row.server.generation for row in rows]


# --- what all take ------------------------------------------------------------------------

_changes = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(1, 2),
        st.one_of(
            st.none(),
            st.fixed_dictionaries(
                {
                    "phase": st.sampled_from(Phase),
                    "role": st.sampled_from(Role),
                    "expected": st.integers(0, 9),
                    "peak": st.integers(0, 9),
                    "footprint": st.integers(0, 9),
                    "identity": st.sampled_from([None, Identity(1, 1, "boot")]),
                    "account": st.sampled_from(["", "engine", "other"]),
                    "settings": st.sampled_from([SETTINGS, replace(SETTINGS, groups=("g",))]),
                }
            ),
        ),
    ),
    max_size=20,
)


@given(_changes)
def test_the_indexes_are_those_that_the_servers_give(
    changes: list[tuple[str, int, dict[str, object] | None]],
) -> None:
    table = ServerTable()
    for model, generation, change in changes:
        one = replace(server(model), generation=generation)
        if change is not None:
            table.put(replace(one, **change))  # type: ignore[arg-type]
        elif table.find(one.id) is not None:
            table.remove(one.id)
    servers = [row.server for row in table]
    assert table.reserved == sum(one.reserved for one in servers)
    assert table.growth == sum(one.growth for one in servers)
    for account in ("engine", "other"):
        own = sum(one.reserved for one in servers if one.account == account)
        assert table.reserved_by.get(account, 0) == own
    in_group = [one for one in servers if one.takes_memory and one.settings.groups]
    assert table.group_counts.get("g", 0) == len(in_group)
    beside = {one.id for one in servers if one.role is not Role.CURRENT}
    assert {row.server.id for row in table.all_beside} == beside
    with_process = {one.id for one in servers if one.identity is not None}
    assert {one.id for one in table.take_turns(99)} == with_process
    before = _indexes(table)
    table.rebuild()
    assert _indexes(table) == before


def _indexes(table: ServerTable) -> tuple[object, ...]:
    by_phase = {phase: {one.server.id for one in table.of(phase)} for phase in Phase}
    groups = +table._group_counts
    return [one.server for one in table], by_phase, groups, table.reserved, table.growth


def test_the_longest_in_a_phase_is_first_and_keeps_its_place_when_it_changes() -> None:
    table = ServerTable()
    for model in "bac":
        table.put(server(model, Phase.READY))
    table.put(replace(server("b", Phase.READY), detail="changed"))
    assert [one.server.model for one in table.of(Phase.READY)] == ["b", "a", "c"]
    table.put(server("b", Phase.STOPPING))
    table.put(server("b", Phase.READY))
    assert [one.server.model for one in table.of(Phase.READY)] == ["a", "c", "b"]


def test_each_that_has_a_process_gets_its_turn() -> None:
    table = ServerTable()
    for pid, model in enumerate("abcd"):
        process = Identity(pid, 1, "boot") if model != "d" else None
        table.put(replace(server(model, Phase.READY), identity=process))
    turns = [[one.model for one in table.take_turns(2)] for _ in range(3)]
    assert turns == [["a", "b"], ["c", "a"], ["b", "c"]]


# --- marks --------------------------------------------------------------------------------


def marked() -> Row:
    """Return a row with every mark that a phase can take away."""
    return Row(
        server(),
        is_estimating=True,
        timed_out=TimedOut("it stood still", StartTimeout("it stood still")),
        stall_watch=after_sample(None, None, 0, now=1.0, stall_timeout=60.0),
        lost_ports=2,
        is_checking=True,
        is_check_stale=True,
        is_cordoned=True,
        is_preempted=True,
        preempted_for="other",
        busy_until=1.0,
        seen_use=SeenUse(1.0, ()),
        liveness=Liveness(1.0, ()),
    )


@pytest.mark.parametrize(
    ("phase", "stays"),
    [
        (Phase.QUEUED, {"is_estimating", "lost_ports"}),
        (Phase.PREPARING, {"lost_ports"}),
        (Phase.STARTING, {"timed_out", "stall_watch", "lost_ports"}),
        (
            Phase.READY,
            {
                "is_checking",
                "is_cordoned",
                "is_preempted",
                "preempted_for",
                "busy_until",
                "seen_use",
                "liveness",
            },
        ),
        (Phase.STOPPING, {"is_check_stale", "lost_ports"}),
        (Phase.CLEANING_UP, {"lost_ports"}),
        (Phase.BACKING_OFF, {"lost_ports"}),
        (Phase.FAILED, set()),
    ],
)
def test_only_the_marks_that_mean_something_in_a_phase_are_kept(
    phase: Phase, stays: set[str]
) -> None:
    row, without = marked(), Row(server())
    row.clear_marks_outside(phase)
    names = [name for name in Row.__slots__ if name != "server"]
    kept = {name for name in names if getattr(row, name) != getattr(without, name)}
    assert kept == stays


def test_who_is_withdrawn_may_still_be_checked_but_is_neither_preempted_nor_busy() -> None:
    row = marked()
    row.clear_marks_of_current()
    assert row.is_checking
    assert not row.is_cordoned
    assert (row.is_preempted, row.preempted_for) == (False, None)
    assert (row.busy_until, row.liveness) == (None, None)
