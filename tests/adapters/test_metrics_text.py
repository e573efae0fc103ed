"""Claims about how numbers are read from what a server tells."""

import json
import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from pool_service.adapters.probe import metrics_text
from pool_service.adapters.probe.metrics_text import is_selector, total

IN_FLIGHT = 'vllm_mlx_http_requests_in_flight{method="POST"}'
LABELS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)


def told(*lines: str) -> bytes:
    return "\n".join(lines).encode()


@given(st.dictionaries(st.tuples(st.sampled_from(["GET", "POST"]), LABELS), st.floats(0, 1e300)))
def test_what_prometheus_writes_is_added_up(series: Mapping[tuple[str, str], float]) -> None:
    registry = CollectorRegistry()
    name = "vllm_mlx_http_requests_in_flight"
    gauge = Gauge(name, 'Says "{x} 1" \n and \\.', ["method", "path"], registry=registry)
    Gauge("other_" + name, "Ends alike.", registry=registry).set(77)
    for (method, path), value in series.items():
        gauge.labels(method, path).set(value)
    posts = [value for (method, _), value in series.items() if method == "POST"]
    assert total(generate_latest(registry), [IN_FLIGHT]) == math.fsum(posts)
    assert total(generate_latest(registry), [name]) == math.fsum(series.values())


@given(LABELS)
def test_a_label_is_told_by_its_value_however_it_is_written(path: str) -> None:
    registry = CollectorRegistry()
    counter = Counter("served", "", ["path"], registry=registry)
    counter.labels(path).inc(3)
    counter.labels(path + "x").inc(5)
    escaped = path.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    assert total(generate_latest(registry), [f'served_total{{path="{escaped}"}}']) == 3


def test_a_metric_that_is_announced_and_has_no_series_yet_is_zero() -> None:
    assert total(told("# TYPE busy gauge"), ["busy"]) == 0
    assert total(told("# TYPE busy gauge", 'busy{a="b"} 5'), ['busy{a="c"}']) == 0


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"busy", b"busy ", b"busy x", b"busy{ 1", b'busy{a="b} 1', b"# HELP busy 3"),
        *(b"busyness 1", b"so_busy 1", b"# TYPE busyness gauge", b"\xff\xfe", b"busy 1_0"),
        *(b"busy NaN", b"busy -1", b"busy -Inf", b'busy{a="b"} 3\nbusy{a="c"} NaN', b"busy 0x10"),
    ],
)
def test_what_is_not_there_or_no_count_is_not_told(body: bytes) -> None:
    assert total(body, ["busy"]) is None


@pytest.mark.parametrize(
    ("line", "value"),
    [
        *(("busy 2", 2.0), ("busy 2.5", 2.5), ("busy{} 2", 2.0), ("  busy   2  ", 2.0)),
        *(("busy 2 1700000000000", 2.0), ("busy 1e3", 1000.0), ("busy 0", 0.0)),
        *(("busy +Inf", math.inf), (f"busy 1{'0' * 400}", math.inf), ("busy 2\r", 2.0)),
        ('busy{ a = "}" , b="\\"{", } 4', 4.0),
    ],
)
def test_a_number_is_read_as_the_format_has_it(line: str, value: float) -> None:
    assert total(told("# TYPE busy gauge", line, "other 9"), ["busy"]) == value


@pytest.mark.parametrize("selectors", [["busy"], ["/a", "/b"]])
def test_what_adds_up_to_more_than_there_is_is_infinite(selectors: list[str]) -> None:
    lines = ['busy{a="1"} 1e308', 'busy{a="2"} 1e308']
    body = told(*lines) if selectors == ["busy"] else b'{"a": 1e308, "b": 1e308}'
    assert total(body, selectors) == math.inf


def test_several_are_added_and_none_may_be_missing() -> None:
    body = told("llamacpp:requests_processing 4", "llamacpp:requests_deferred 2")
    both = ["llamacpp:requests_processing", "llamacpp:requests_deferred"]
    assert total(body, both) == 6
    assert total(body, [*both, "llamacpp:absent"]) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        *((0, 0.0), (2, 2.0), (2.5, 2.5), (10**400, math.inf), (True, None), (-1, None)),
        *(("2", None), (None, None), ([2], None), (math.nan, None), (-(10**400), None)),
    ],
)
def test_a_json_pointer_leads_to_a_count_or_to_nothing(value: object, number: float | None) -> None:
    body = json.dumps({"summary": {"in_flight": value}}).encode()
    assert total(body, ["/summary/in_flight"]) == number


def test_a_json_pointer_goes_through_lists_and_escapes() -> None:
    body = b'{"a/b": [{"~": 3}], "": 1, "x": {"0": 5}}'
    assert total(body, ["/a~1b/0/~0"]) == 3
    assert total(body, ["/"]) == 1
    assert total(body, ["/x/0"]) == 5
    for absent in ("/a~1b/1/~0", "/a~1b/-1", "/a~1b/x", "/none/at/all", "/x/0/y"):
        assert total(body, [absent]) is None


@pytest.mark.parametrize("body", [b"", b"no", b"[" * 60000, b"1" * 5000, b'"text"', b"null"])
def test_what_is_no_json_tells_nothing(body: bytes) -> None:
    assert total(body, ["/busy"]) is None


@pytest.mark.parametrize("name", ["busy", "a:b_9", 'busy{method="POST"}', "busy{}", "/a/b~1c", "/"])
def test_a_metric_or_a_pointer_names_a_number(name: str) -> None:
    assert is_selector(name)


@pytest.mark.parametrize("name", ["", "9a", "a b", "busy{", "busy{a}", 'busy{a="}', "a-b", "/a~2"])
def test_anything_else_does_not(name: str) -> None:
    assert not is_selector(name)


MANY = 300_000


@pytest.mark.parametrize(
    "line",
    [
        "a" + " " * MANY,
        " " * MANY + "a",
        "a 1" + " " * MANY + "x",
        "a{}" + " " * MANY + "x",
        "a{" + '"' * MANY,
        'a{b="' + '\\"' * MANY,
        "a{" + '""' * MANY + "x",
        "a{" * MANY,
        'a{b="c"' + " " * MANY + "x} 1",
        "# TYPE " + " " * MANY + "a",
    ],
    ids=lambda line: line[:12].replace(" ", "_"),
)
def test_no_line_holds_up_the_service(line: str) -> None:
    assert total(line.encode(), ["a"]) is None


def test_a_series_with_many_labels_is_read_like_any_other() -> None:
    labels = ",".join(f'l{n}="v"' for n in range(20_000))
    assert total(f"a{{{labels} , }} 3\n".encode(), ['a{l19999="v"}']) == 3


def test_only_lines_that_may_be_of_a_metric_are_read_in_full() -> None:
    text = "# HELP a_total of a\n# TYPE a counter\na_total 1\nb 2\n"
    lines = list(metrics_text._lines_with(text, "a_total"))
    assert lines == ["# TYPE a counter", "a_total 1"]
