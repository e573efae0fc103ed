"""What the endpoints of a Service mean as members."""

from typing import Any

import pytest

from pool_service.fleet.engines.kubernetes.errors import KubernetesError
from pool_service.fleet.engines.kubernetes.slices import members_of
from tests.fleet.engines.kubernetes.api_server import endpoint, slice_of


def told(*slices: dict[str, Any], port: int | str | None = None) -> dict[str, str]:
    return dict(members_of(slices, port).addresses)


def of(*endpoints: dict[str, object], **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return slice_of("members", "members-1", endpoints, **more)


def states(*, ready: bool | None, serving: bool | None, terminating: bool | None) -> dict[str, Any]:
    return {"conditions": {"ready": ready, "serving": serving, "terminating": terminating}}


READY = states(ready=True, serving=True, terminating=False)
STARTING = states(ready=False, serving=False, terminating=False)
LEAVING = states(ready=False, serving=True, terminating=True)
GONE = states(ready=False, serving=False, terminating=True)


def test_a_pod_of_a_daemon_set_is_named_by_its_node() -> None:
    assert told(of(endpoint("10.1.0.5", node="mac-1", pod="member-x7k2p"))) == {
        "mac-1": "10.1.0.5:50051"
    }


def test_a_pod_of_a_stateful_set_is_named_by_its_hostname() -> None:
    one = endpoint("10.1.0.5", node="mac-1", pod="member-0", hostname="member-0")
    assert told(of(one)) == {"member-0": "10.1.0.5:50051"}


def test_an_endpoint_without_a_node_is_named_by_its_pod_or_address() -> None:
    entries = [endpoint("10.1.0.5", pod="member"), endpoint("fd00::7")]
    assert told(of(entries[0]), of(entries[1], kind="IPv6")) == {
        "member": "10.1.0.5:50051",
        "fd00::7": "[fd00::7]:50051",
    }


def test_members_are_in_several_slices_of_which_some_are_empty() -> None:
    empty = {"metadata": {"name": "c"}, "addressType": "IPv4", "endpoints": None, "ports": None}
    slices = [
        slice_of("members", "a", [endpoint("10.1.0.5", node="mac-1")]),
        slice_of("members", "b", [endpoint("10.1.0.6", node="mac-2")]),
        empty,
    ]
    assert told(*slices) == {"mac-1": "10.1.0.5:50051", "mac-2": "10.1.0.6:50051"}


def test_a_pod_with_addresses_of_both_kinds_is_one_member() -> None:
    four = of(endpoint("10.1.0.5", node="mac-1", pod="x"))
    six = of(endpoint("fd00::5", node="mac-1", pod="x"), kind="IPv6")
    assert told(six, four) == told(four, six) == {"mac-1": "10.1.0.5:50051"}
    assert members_of([four, six], None).rivals == {}


@pytest.mark.parametrize(
    ("conditions", "there"),
    [
        (READY, True),
        ({"conditions": {}}, True),
        ({"conditions": None}, True),
        (states(ready=None, serving=None, terminating=None), True),
        (STARTING, True),
        (LEAVING, True),
        (GONE, False),
    ],
    ids=["ready", "without", "null", "nulls", "not ready", "leaving", "gone"],
)
def test_only_a_pod_that_leaves_and_serves_no_more_is_no_member(
    conditions: dict[str, Any], there: bool
) -> None:
    assert bool(told(of(endpoint("10.1.0.5", node="mac-1", **conditions)))) == there


@pytest.mark.parametrize(
    ("worse", "better"),
    [(LEAVING, STARTING), (STARTING, READY), (LEAVING, READY), (GONE, STARTING)],
    ids=["leaving", "starting", "replaced", "gone"],
)
def test_of_two_pods_of_one_node_the_better_one_is_the_member(
    worse: dict[str, Any], better: dict[str, Any]
) -> None:
    for names in (("a", "b"), ("b", "a")):
        entries = [
            endpoint("10.1.0.5", node="mac-1", pod=names[0], **worse),
            endpoint("10.1.0.6", node="mac-1", pod=names[1], **better),
        ]
        assert told(of(*entries)) == told(of(*reversed(entries))) == {"mac-1": "10.1.0.6:50051"}
        assert members_of([of(*entries)], None).rivals == {}


def test_of_two_ready_pods_of_one_node_always_the_same_one_counts_and_both_are_told() -> None:
    entries = [
        endpoint("10.1.0.6", node="mac-1", pod="b"),
        endpoint("10.1.0.5", node="mac-1", pod="a"),
    ]
    assert told(of(*entries)) == told(of(*reversed(entries))) == {"mac-1": "10.1.0.5:50051"}
    assert members_of([of(*entries)], None).rivals == {"mac-1": ("a", "b")}


@pytest.mark.parametrize(
    ("ports", "wanted", "number"),
    [
        ([("", 7000)], None, 7000),
        ([("metrics", 7000)], None, 7000),
        ([("metrics", 7000), ("grpc", 7001)], None, 7001),
        ([("metrics", 7000), ("control", 7001)], "control", 7001),
        ([("metrics", 7000)], 7002, 7002),
        ([], 7002, 7002),
    ],
    ids=["only", "only, named", "grpc", "by name", "by number", "none"],
)
def test_the_port_is_the_one_that_is_meant(
    ports: list[tuple[str, int]], wanted: int | str | None, number: int
) -> None:
    one = of(endpoint("10.1.0.5", node="mac-1"), ports=ports)
    assert told(one, port=wanted) == {"mac-1": f"10.1.0.5:{number}"}


@pytest.mark.parametrize(
    ("ports", "wanted", "listed"),
    [
        ([("a", 1), ("b", 2)], None, "'grpc' for TCP .its ports: 'a', 'b'"),
        ([("grpc", 1)], "control", "'control' for TCP .its ports: 'grpc'"),
        ([], None, "'grpc' for TCP .its ports: none"),
    ],
)
def test_a_port_that_is_missing_is_told(
    ports: list[tuple[str, int]], wanted: str | None, listed: str
) -> None:
    with pytest.raises(KubernetesError, match=listed):
        told(of(endpoint("10.1.0.5"), ports=ports), port=wanted)


@pytest.mark.parametrize(
    "broken",
    [
        {"addressType": "IPv9", "endpoints": [endpoint("10.1.0.5")], "ports": [{"port": 1}]},
        {"addressType": "IPv4", "endpoints": [{"addresses": []}], "ports": [{"port": 1}]},
        {"addressType": "IPv4", "endpoints": ["x"], "ports": [{"port": 1}]},
    ],
)
def test_a_slice_of_another_form_is_told(broken: dict[str, Any]) -> None:
    with pytest.raises(KubernetesError, match="cannot be read"):
        told(broken)
