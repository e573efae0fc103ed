"""Claims about one answer that is made of several members' answers."""

from hypothesis import given
from hypothesis import strategies as st

from pool_service.fleet.rpc import merging
from pool_service.rpc.pages import PAGE_BYTES
from pool_service.v1 import pool_service_pb2 as pb


def page(*servers: pb.Server, token: str = "") -> pb.ListResponse:
    return pb.ListResponse(servers=servers, next_page_token=token)


def server(model: str, generation: int = 1, host: str = "a") -> pb.Server:
    return pb.Server(model=model, generation=generation, host=host)


def catalogue(*models: pb.Model, token: str = "") -> pb.ListModelsResponse:
    return pb.ListModelsResponse(models=models, next_page_token=token)


def test_servers_of_all_members_are_in_the_order_of_a_pool() -> None:
    pages = [page(server("b"), server("d")), page(server("a", 2, "b"), server("c", 1, "b"))]
    shown, more = merging.servers(pages, 10)
    assert [one.model for one in shown] == ["a", "b", "c", "d"]
    assert not more


def test_a_page_that_is_full_says_that_others_follow() -> None:
    shown, more = merging.servers([page(server("a"), server("b")), page(server("c"))], 2)
    assert [one.model for one in shown] == ["a", "b"]
    assert more


def test_servers_of_one_place_in_the_order_are_never_on_two_pages() -> None:
    pages = [page(server("a")), page(server("a", host="b")), page(server("b", host="c"))]
    shown, more = merging.servers(pages, 1)
    assert [(one.model, one.host) for one in shown] == [("a", "a"), ("a", "b")]
    assert more


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 3))), max_size=3),
    st.integers(1, 4),
    st.lists(st.integers(1, 4), min_size=3, max_size=3),
)
def test_pages_after_one_another_tell_each_server_once(
    members: list[list[tuple[str, int]]], size: int, fitting: list[int]
) -> None:
    # As members answer: in their order, each server once, only those after the last of the page,
    # and of these as many as fit by their bytes.
    pools = [sorted(set(pool)) for pool in members]
    told: list[tuple[str, int, str]] = []
    after: tuple[str, int] = ("", 0)
    while True:
        pages = []
        for number, pool in enumerate(pools):
            left = [one for one in pool if one > after]
            told_now = left[: min(size, fitting[number])]
            shown = [server(model, generation, str(number)) for model, generation in told_now]
            pages.append(page(*shown, token="next" if len(left) > len(told_now) else ""))
        shown, more = merging.servers(pages, size)
        told += [(one.model, one.generation, one.host) for one in shown]
        if not more:
            break
        assert shown
        after = shown[-1].model, shown[-1].generation
    everything = [(*one, str(number)) for number, pool in enumerate(pools) for one in pool]
    assert sorted(told) == sorted(everything)


def test_no_server_is_told_before_a_member_has_told_its_own_up_to_there() -> None:
    # The first member's page is full by its bytes: fewer servers than were asked for.
    pages = [page(server("a"), server("c"), token="next"), page(server("b"), server("d"))]
    shown, more = merging.servers(pages, 10)
    assert [one.model for one in shown] == ["a", "b", "c"]
    assert more


def test_a_page_of_all_members_is_no_larger_than_one_of_a_member() -> None:
    text, names = "x" * 9000, [f"m-{number:03}" for number in range(600)]
    servers = [pb.Server(model=name, detail=text) for name in names]
    members = [page(*servers[first::6], token="next") for first in range(6)]
    shown, more = merging.servers(members, 1000)
    assert sum(one.ByteSize() for one in shown) < PAGE_BYTES + 2 * len(text)
    assert more
    models = [pb.Model(model=name, problem=text) for name in names]
    catalogues = [catalogue(*models[first::6]) for first in range(6)]
    listed, more = merging.models(catalogues, 1000)
    assert sum(one.ByteSize() for one in listed) < PAGE_BYTES + 2 * len(text)
    assert more


def test_a_model_of_several_members_is_told_once() -> None:
    first = pb.Model(model="m", aliases=["x"], on_disk=False, disk_bytes=1, expected_bytes=5)
    second = pb.Model(
        model="m",
        aliases=["y"],
        on_disk=True,
        disk_bytes=9,
        expected_bytes=3,
        listed=True,
        pinned=True,
        state=pb.SERVER_STATE_READY,
    )
    shown, more = merging.models([catalogue(first), catalogue(second)], 10)
    (one,) = shown
    assert list(one.aliases) == ["x", "y"]
    assert (one.on_disk, one.disk_bytes, one.expected_bytes) == (True, 9, 5)
    assert (one.listed, one.pinned, one.state) == (True, True, pb.SERVER_STATE_READY)
    assert not more


def test_a_model_is_a_problem_only_if_no_member_can_start_it() -> None:
    bad, good = pb.Model(model="m", problem="no runtime"), pb.Model(model="m")
    assert merging.models([catalogue(bad), catalogue(good)], 10)[0][0].problem == ""
    assert merging.models([catalogue(bad), catalogue(bad)], 10)[0][0].problem == "no runtime"


def test_no_model_is_told_before_a_member_has_told_its_own_of_that_name() -> None:
    # The first member's page ends at "b"; of "c" it may have told something on the next one.
    pages = [
        catalogue(pb.Model(model="a"), pb.Model(model="b"), token="next"),
        catalogue(pb.Model(model="a"), pb.Model(model="c")),
    ]
    shown, more = merging.models(pages, 10)
    assert [one.model for one in shown] == ["a", "b"]
    assert more


def test_totals_are_sums_and_no_limit_is_no_limit() -> None:
    limited = pb.PoolTotals(servers=2, ready=1, memory_budget_bytes=5, memory_reserved_bytes=3)
    free = pb.PoolTotals(servers=1, ready=1, memory_reserved_bytes=4, memory_pressured=True)
    both = merging.totals([limited, free])
    assert (both.servers, both.ready, both.memory_reserved_bytes) == (3, 2, 7)
    assert both.memory_pressured
    assert not both.HasField("memory_budget_bytes")
    assert merging.totals([limited, limited]).memory_budget_bytes == 10
