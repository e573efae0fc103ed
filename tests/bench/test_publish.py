import json
import re
from pathlib import Path

import pytest

from tools.bench import growth, machine, publish
from tools.bench.__main__ import PAGE, main, parts
from tools.bench.publish import Run
from tools.bench.report import Curve, compare, stages

FACTS = dict.fromkeys(
    (
        "date",
        "commit",
        "system",
        "processor",
        "cores",
        "memory",
        "load",
        "python",
        "nginx",
        "llama-swap",
        *machine.PACKAGES,
    ),
    "x",
)
STARTS = compare(
    "cold", "a start", "by hand", [(2.0, 1.0), (3.0, 1.0), (4.0, 1.0)], unit="s", aim=2
)
CURVE = Curve("others", "calls", "per cent", "ms", {"quiet": ((0.0, 1.0), (50.0, 2.0))}, log_y=True)
STAGES = stages("cold", "a model", "by hand", [{"spawn": 0.1, "load": 1.5}])
RUN = Run(FACTS, [STARTS, CURVE, STAGES])
PLACES = (
    "before\n<!-- cold -->\nearlier\n<!-- end of cold -->\nprose\n"
    "<!-- missed -->\n<!-- end of missed -->\n"
    "<!-- machine -->\nearlier\n<!-- end of machine -->\nafter\n"
)


def test_a_saved_run_is_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    publish.save(RUN, tmp_path / "run.json")
    loaded = publish.load(tmp_path / "run.json")
    assert loaded == Run(FACTS, [STARTS, CURVE, STAGES])


def test_the_json_holds_the_raw_samples_each_pair_on_its_line(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    publish.save(Run({}, [compare("x", "a", "b", [(1.2345678, 1 / 3)])]), path)
    assert json.loads(path.read_text())["figures"][0]["samples"] == [[1.2346, 0.33333]]
    assert "[1.2346, 0.33333]" in path.read_text()


def test_publishing_replaces_what_is_between_the_markers_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACES)
    publish.publish(RUN, page, tmp_path / "plots")
    text = page.read_text()
    assert "earlier" not in text
    assert text.startswith("before\n<!-- cold -->\n| what |")
    assert "| a start | by hand |" in text
    assert "\nprose\n" in text
    assert "- a start, against by hand: 3.00 s, 3.000, +2.00 s" in text
    assert text.endswith("<!-- end of machine -->\nafter\n")
    publish.publish(RUN, page, tmp_path / "plots")
    assert page.read_text() == text


def test_publishing_puts_the_plots_of_the_page_beside_it_and_all_into_the_directory(
    tmp_path: Path,
) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACES)
    publish.publish(RUN, page, tmp_path / "all")
    assert [path.name for path in (tmp_path / "page").iterdir()] == ["cold-stages.svg"]
    assert len([*(tmp_path / "all").iterdir()]) == 3


def test_the_page_shows_the_plots_that_are_published() -> None:
    shown = re.findall(r"\]\(benchmarks/([^)]+)\)", PAGE.read_text())
    assert sorted(shown) == sorted(publish.PLOTS)
    assert sorted(path.name for path in PAGE.with_suffix("").iterdir()) == sorted(publish.PLOTS)


def test_a_page_without_a_place_for_a_part_is_refused_and_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACES.replace("<!-- cold -->", ""))
    before = page.read_text()
    with pytest.raises(ValueError, match="<!-- cold -->"):
        publish.publish(RUN, page, tmp_path / "plots")
    assert page.read_text() == before


def test_a_run_without_a_miss_says_so(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PLACES)
    publish.publish(Run(FACTS, [compare("cold", "a", "b", [(1.0, 1.0)], aim=1)]), page, tmp_path)
    assert "<!-- missed -->\nNone of them did.\n<!-- end of missed -->" in page.read_text()


def test_the_page_has_a_place_for_each_part() -> None:
    text = PAGE.read_text()
    for name in (*parts(quick=False), "machine", "missed"):
        assert text.count(f"<!-- {name} -->") == text.count(f"<!-- end of {name} -->") == 1


def test_each_kind_of_result_has_its_plot_without_ground_and_date(tmp_path: Path) -> None:
    paths = publish.draw(RUN, tmp_path)
    assert [path.name for path in paths] == ["cold.svg", "others-curves.svg", "cold-stages.svg"]
    for path in paths:
        text = path.read_text()
        assert "dc:date" not in text
        assert not re.search(r"fill: #fff(fff)?\b", text)
    assert "against by hand" in paths[0].read_text()
    assert "1.60 s" in paths[2].read_text()


def test_the_same_results_are_the_same_bytes(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in publish.draw(RUN, tmp_path / "first")]
    assert [path.read_bytes() for path in publish.draw(RUN, tmp_path / "second")] == first


def test_a_cost_grows_over_the_sizes_at_which_it_was_measured() -> None:
    figures = [
        compare("size", "time of an Ensure, 50 servers", "the same, 5 servers", [(3.0, 2.0)]),
        compare("size", "time of an Ensure, 500 servers", "the same, 5 servers", [(4.0, 2.5)]),
        compare("size", "time of a Hold, 100 at a time", "one alone", [(1.5, 1.0)]),
        compare("size", "time of a Hold, 1,000 at a time (aim: 9 ms)", "one alone", [(2.0, 1.0)]),
        compare("size", "time of a Watch, 100 at a time", "one alone", [(2.0, 1.0)]),
        compare("size", "start of the service", "python -c pass", [(2.0, 1.0)]),
        compare("size", "memory after 100 streams", "before them", [(2.0, 1.0)], unit="MiB"),
    ]
    first, second = growth.curves(figures)
    assert first.plot == "time of an Ensure, N servers"
    assert first.lines == {first.plot: ((5.0, 2.0), (50.0, 3.0), (500.0, 4.0))}
    assert second.lines == {
        "time of a Hold, N at a time": ((1.0, 1.0), (100.0, 1.5), (1000.0, 2.0))
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["cold", "crush"], "there is no part 'crush'; there are warm, "),
        (["--publish", "part.json"], "is not of a whole run, and the page is: missing warm, "),
        (["--publish", "none.json"], "no run that was written here: .*No such file"),
    ],
)
def test_what_cannot_be_measured_or_published_is_refused_in_words(
    arguments: list[str],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    publish.save(RUN, tmp_path / "part.json")
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert re.search(why, capsys.readouterr().err)
