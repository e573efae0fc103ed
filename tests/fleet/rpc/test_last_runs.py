"""Claims about the member on which a model without a server ran last."""

from pool_service.fleet.rpc.last_runs import by_last_run
from pool_service.v1 import pool_service_pb2 as pb


def described(*generations: int, listed: bool = False) -> pb.DescribeResponse:
    runs = [pb.Run(generation=one) for one in generations]
    return pb.DescribeResponse(model="m", listed=listed, runs=runs)


def test_the_host_of_the_highest_generation_comes_first() -> None:
    hosts = {"a": described(1, 4), "b": described(), "c": described(2, 5)}
    assert by_last_run(hosts) == ["c", "a", "b"]


def test_where_it_never_ran_a_host_that_lists_it_comes_first() -> None:
    hosts = {"a": described(), "b": described(listed=True), "c": described()}
    assert by_last_run(hosts) == ["b", "a", "c"]
