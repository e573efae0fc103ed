"""Show the chosen row, results and questions below the table."""

import pytest

from pool_service.cli.appearance import Mark
from pool_service.cli.top.controls import Controls, Message
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import GB, NOW, describe, full, picture, screen, server


def told() -> str:
    """The local time of NOW."""
    return f"{NOW.astimezone():%H:%M:%S}"


def test_a_refusal_is_shown_whole_in_the_lines_above_the_keys() -> None:
    text = "ensure large: the model needs 70.0 GB, more than the budget of 40.0 GB. " * 2
    controls = Controls(messages=[Message(text, Mark.BAD, NOW)], calls=["evict a", "ensure b"])
    lines = screen(full(), controls, 80, 30)
    assert " ".join(" ".join(lines[-5:-2]).split()).endswith(text.strip())
    assert lines[-2] == "under way: evict a, ensure b"


def test_a_question_stands_below_the_newest_message() -> None:
    controls = Controls(messages=[Message("old", Mark.DONE, NOW)], calls=["ensure b"])
    controls.ask_before_evicting("m", "m is held once", None)
    lines = screen(full(), controls)
    assert lines[-3:-1] == [f"{told()} old", "Stop m all the same? (y/n) m is held once."]


def test_the_last_messages_are_shown_with_their_times_where_there_is_room() -> None:
    later = Message("c " * 90, Mark.BAD, NOW.replace(second=7))
    controls = Controls(
        messages=[Message("a " * 90, Mark.DONE, NOW), Message("b", Mark.DONE, NOW), later]
    )
    *_, first, second, third, fourth, fifth, _keys = screen(full(), controls, 80, 24)
    assert first.startswith(f"{told()} a a a")
    assert first.endswith("a..")
    assert second == f"{told()} b"
    assert third.startswith(f"{told()[:-1]}7 c c c")
    assert f"{third} {fourth} {fifth}".split()[1:] == ["c"] * 90
    low = screen(full(), controls, 80, 19)
    assert not [line for line in low if line.endswith(" b") or " a a a" in line]
    assert [line for line in low if "c c c" in line]


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("length", [1, 47, 512])
def test_what_is_asked_is_never_cut_nor_are_the_ends_of_the_name(width: int, length: int) -> None:
    name = "N" + "n" * (length - 2) + "z" * (length > 1)
    controls = Controls()
    refusal = f"'{name}' has 1 request(s) in flight, so it was not evicted. Try again later."
    controls.ask_before_evicting(name, refusal, None)
    lines = screen(picture(server(name)), controls, width, 24)
    begin = next(place for place, line in enumerate(lines) if line.startswith("Stop N"))
    asked = " ".join(map(str.strip, lines[begin:-1]))
    assert f"{name[-1]} all the same? (y/n) " in asked
    assert asked.endswith("Try again later.")


def test_a_long_refusal_keeps_the_advice_at_its_end() -> None:
    text = f"ensure {'m' * 512}: it is too large. Give it less to do."
    lines = screen(picture(), Controls(messages=[Message(text, Mark.BAD, NOW)]), 80, 24)
    assert lines[-2].endswith("it is too large. Give it less to do.")
    assert f"{told()} ensure" in lines


def test_the_order_of_evictions_is_told_of_the_chosen_one() -> None:
    shown = picture(server("m"))
    candidate = pb.EvictionCandidate(model="m", generation=1, freed_bytes=3 * GB)
    describe(shown, "m", next_to_go=[candidate], eviction_position=1, eviction_candidates=4)
    assert "  number 1 of 4 to be stopped for another model, which frees 3.0 GB" in screen(shown)


@pytest.mark.parametrize("role", [pb.SERVER_ROLE_SUPERSEDED, pb.SERVER_ROLE_SUCCESSOR])
def test_a_server_beside_the_current_one_has_not_its_place(
    role: pb.ServerRole.ValueType,
) -> None:
    shown = picture(server("m", role=role))
    describe(shown, "m", eviction_position=1, eviction_candidates=4)
    assert not [line for line in screen(shown) if "to be stopped" in line]


@pytest.mark.parametrize("width", [80, 120])
def test_the_endpoint_of_the_chosen_server_is_shown_whole_however_long_its_name(
    width: int,
) -> None:
    lines = screen(picture(server("N" + "n" * 300 + "z")), width=width, height=24)
    (facts,) = [line for line in lines if "http" in line]
    assert facts.startswith("Nn")
    assert facts.endswith("nz: http://127.0.0.1:49321, generation 1, pid 4711")
