"""Of several servers of one model, which one stays, by values."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.fleet.core.copies import kept, surplus
from pool_service.fleet.core.values import SeenServer, ServerState

READY = SeenServer("a", "m", 1, ServerState.READY)
HOSTS = ["a", "b", "c"]
SERVERS = st.lists(
    st.builds(
        SeenServer,
        st.sampled_from(HOSTS),
        st.just("m"),
        st.integers(1, 4),
        st.sampled_from(ServerState),
        st.booleans(),
    ),
    max_size=6,
    unique_by=lambda one: (one.host, one.generation),
)


def on(host: str, generation: int, state: ServerState = ServerState.READY) -> SeenServer:
    return SeenServer(host, "m", generation, state)


def test_the_server_where_the_model_was_placed_stays_whatever_the_others_are() -> None:
    starting = on("a", 1, ServerState.STARTING)
    assert kept([starting, on("b", 9)], claimed="a") == starting
    assert kept([on("b", 9), starting], claimed="a") == starting


def test_without_a_placing_one_that_is_ready_stays_then_the_highest_generation() -> None:
    assert kept([on("a", 9, ServerState.STARTING), on("b", 1)]) == on("b", 1)
    assert kept([on("a", 3), on("b", 4)]) == on("b", 4)
    assert kept([on("a", 3), on("b", 4)], claimed="c") == on("b", 4)


@pytest.mark.parametrize(
    "server",
    [
        replace(READY, state=ServerState.STOPPING),
        replace(READY, state=ServerState.FAILED),
        replace(READY, is_current=False),
    ],
)
def test_a_server_that_callers_get_no_more_neither_stays_nor_is_surplus(server: SeenServer) -> None:
    assert kept([server], claimed="a") is None
    assert surplus([server, on("b", 1)]) == []
    assert kept([server, on("b", 1)], claimed="a") == on("b", 1)


@given(servers=SERVERS, claimed=st.sampled_from(["", *HOSTS]))
def test_one_host_keeps_its_servers_and_all_others_lose_theirs(
    servers: list[SeenServer], claimed: str
) -> None:
    stays, rest = kept(servers, claimed), surplus(servers, claimed)
    living = [one for one in servers if one.lives]
    if stays is None:
        assert living == rest == []
        return
    assert sorted([*rest, *(one for one in living if one.host == stays.host)], key=repr) == sorted(
        living, key=repr
    )
    if claimed in {one.host for one in living}:
        assert stays.host == claimed
    assert kept(servers[::-1], claimed) == stays
