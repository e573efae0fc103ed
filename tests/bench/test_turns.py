from tools.bench.turns import in_turn, pairs


def test_who_begins_changes_and_warm_ups_do_not_count() -> None:
    order = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turn(3, lambda: measure("a"), lambda: measure("b"), warm_ups=2)
    assert "".join(order) == "abababbaab"
    assert found == [(5.0, 6.0), (8.0, 7.0), (9.0, 10.0)]


def test_two_of_several_are_paired_by_their_places() -> None:
    assert pairs([(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)], 0, 2) == [(1.0, 3.0), (4.0, 6.0)]
