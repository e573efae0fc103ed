import pytest

from tools.bench.report import Figure, compare, number, percentile, quartiles, signed, stages, table

PAIRS = [(2.0, 1.0), (3.0, 2.0), (8.0, 2.0), (5.0, 2.0), (6.0, 2.0)]


def figure(aim: float | None = None, aim_over: float | None = None) -> Figure:
    return compare("part", "a start", "by hand", PAIRS, unit="s", aim=aim, aim_over=aim_over)


def test_medians_are_of_each_side_and_ratios_and_differences_of_the_pairs() -> None:
    found = figure()
    assert (found.measured, found.baseline) == (5.0, 2.0)
    # 1.5, 2, 2.5, 3, 4
    assert (found.low, found.ratio, found.high) == (2.0, 2.5, 3.0)
    # 1, 1, 6, 3, 4
    assert found.over == 3.0
    assert found.pairs == 5
    assert found.samples == tuple(PAIRS)


def test_quartiles_of_one_value_are_that_value() -> None:
    assert quartiles([4.0]) == (4.0, 4.0, 4.0)


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


@pytest.mark.parametrize(
    ("aim", "aim_over", "is_missed"),
    [
        (None, None, False),
        (2.5, None, False),
        (2.4, None, True),
        (None, 3.0, False),
        (None, 2.9, True),
        (2.5, 2.9, True),
    ],
)
def test_an_aim_is_missed_only_beyond_it(
    aim: float | None, aim_over: float | None, is_missed: bool
) -> None:
    assert figure(aim, aim_over).is_missed is is_missed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.0123456, "0.0123"),
        (0.5, "0.500"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (999.9, "1,000"),
        (11_840, "11,800"),
        (-34.56, "-34.6"),
        (1e-6, "1e-06"),
    ],
)
def test_a_number_has_three_digits_and_no_exponent(value: float, text: str) -> None:
    assert number(value) == text


def test_a_difference_shows_its_sign() -> None:
    assert [signed(value) for value in (1.5, 0.0, -1.5)] == ["+1.50", "+0", "-1.50"]


def test_the_table_says_all_of_a_figure() -> None:
    assert table([figure(aim=2.4, aim_over=4.0)]) == (
        "| what | against | measured | baseline | ratio (quartiles) | difference | aim | pairs |\n"
        "|---|---|---|---|---|---|---|---|\n"
        "| a start | by hand | 5.00 s | 2.00 s | **2.500** (2.000-3.000) | +3.00 s "
        "| ≤ 2.4 and ≤ +4.00 s, missed | 5 |"
    )


def test_an_aim_for_what_was_measured_itself_is_said_and_missed_beyond_it() -> None:
    for aim, told in ((5.0, "| itself ≤ 5.00 s |"), (4.9, "| itself ≤ 4.90 s, missed |")):
        found = compare("part", "a start", "by hand", PAIRS, unit="s", aim_itself=aim)
        assert told in table([found])


def test_the_table_has_a_dash_where_there_is_no_aim() -> None:
    assert table([figure()]).endswith("| - | 5 |")


def test_stages_are_medians_over_the_rounds_in_their_order() -> None:
    rounds = [{"spawn": 1.0, "load": 9.0}, {"spawn": 3.0, "load": 2.0}, {"spawn": 2.0, "load": 4.0}]
    found = stages("cold", "a model", "by hand", rounds)
    assert list(found.seconds.items()) == [("spawn", 2.0), ("load", 4.0)]
    assert found.rounds == tuple(rounds)
