"""Last runs: which member a model ran on last that has no server now."""

from collections.abc import Mapping

from pool_service.v1 import pool_service_pb2 as pb


def by_last_run(described: Mapping[str, pb.DescribeResponse]) -> list[str]:
    """Return the hosts of members' descriptions of one model: where it ran last comes first.

    Generations rise over all members, and clocks of hosts may differ. Of those where it never ran,
    a host that lists the model comes first.
    """
    return sorted(described, key=lambda host: _rank(described[host]))


def _rank(described: pb.DescribeResponse) -> tuple[int, bool]:
    last = max((run.generation for run in described.runs), default=0)
    return -last, not described.listed
