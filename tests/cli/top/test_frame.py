"""The screen as text, at the widths that people have."""

from pathlib import Path

import pytest

from pool_service.cli.appearance import Mark
from pool_service.cli.top.canvas import Canvas
from pool_service.cli.top.controls import Controls, Message, Mode
from pool_service.cli.top.frame import frame
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.text_views import LogText
from pool_service_client import LogLines
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import (
    GB,
    HELD,
    LOADS,
    NOW,
    at,
    describe,
    full,
    know,
    look,
    on,
    picture,
    receive,
    removed,
    screen,
    server,
)


def shown_at(width: int) -> list[str]:
    return Path(__file__).with_name(f"at_{width}.txt").read_text().splitlines()


def test_120_columns_show_a_bar_and_every_column_but_the_generation() -> None:
    assert screen(full(), on(HELD), 120, 22) == shown_at(120)


def test_80_columns_show_what_matters_most_in_the_same_order() -> None:
    assert screen(full(), on(LOADS), 80, 24) == shown_at(80)


def test_every_frame_fills_the_screen_and_no_line_is_wider() -> None:
    for width in (20, 37, 60, 80, 100, 120, 200):
        for height in (8, 12, 24, 60):
            lines = screen(full(), on(HELD), width, height)
            assert len(lines) == height
            assert max(map(len, lines)) <= width


@pytest.mark.parametrize("height", range(14, 24))
def test_no_message_pushes_the_outage_or_the_memory_off_a_low_screen(height: int) -> None:
    shown = full()
    shown.lose("cannot reach it", NOW)
    refusal = Message(f"begins {'so ' * 300}ends", Mark.BAD, NOW)
    controls = Controls(chosen=(HELD, 1, ""), messages=[refusal] * 3, calls=["ensure b"])
    lines = screen(shown, controls, 80, height)
    assert lines[0].startswith("NO ANSWER for ")
    assert lines[1].startswith("memory ")
    assert any(line.startswith("> ") for line in lines)
    assert any("begins so" in line for line in lines)


def test_a_question_on_a_low_screen_leaves_the_outage_in_sight() -> None:
    shown = full()
    shown.lose("cannot reach it", NOW)
    controls = Controls()
    controls.ask_before_evicting("m", "so " * 300, None)
    assert screen(shown, controls, 80, 8)[0].startswith("NO ANSWER for ")


def test_wide_characters_take_two_cells() -> None:
    shown = picture(server("m", state=pb.SERVER_STATE_FAILED, detail="模型" * 60))
    lines = screen(shown, width=80)
    (reason,) = [line for line in lines if line.startswith("  m: ")]
    assert len(reason) < 45


def test_the_table_stands_still_while_values_change() -> None:
    def row(seconds: int, used: int) -> str:
        shown = picture(server("m", last_use_time=at(-seconds), footprint_bytes=used))
        return next(line for line in screen(shown) if "HOLDS" in line)

    assert row(0, 0) == row(3599, GB)


def test_of_many_servers_those_around_the_chosen_one_are_in_sight() -> None:
    shown = picture(*(server(f"m{place:03}") for place in range(200)))
    lines = screen(shown, on("m150"), 80, 24)
    names = [line[2:6] for line in lines if "READY" in line]
    assert "> m150" in [line[:6] for line in lines]
    assert len(names) > 10
    assert f"  rows {int(names[0][1:]) + 1} to {int(names[-1][1:]) + 1} of 200" in lines


@pytest.mark.parametrize(("chosen", "first"), [("m000", "m000"), ("m199", None)])
def test_no_row_is_left_empty_at_the_ends_of_a_long_table(chosen: str, first: str | None) -> None:
    shown = picture(*(server(f"m{place:03}") for place in range(200)))
    rows = [line for line in screen(shown, on(chosen), 80, 24) if "READY" in line]
    middle = [line for line in screen(shown, on("m100"), 80, 24) if "READY" in line]
    assert len(rows) == len(middle)
    assert (first or chosen) in (rows[0] if first else rows[-1])


def test_nothing_of_a_server_reaches_the_terminal_as_a_control() -> None:
    evil = "a\x1b]0;title\x07\x9b2J\rb\u202e"
    shown = picture(server(evil, state=pb.SERVER_STATE_FAILED, detail=evil, endpoint=evil))
    shown.notices = (evil,)
    shown.lose(evil, NOW)
    describe(shown, evil, holders=[pb.Holder(label=evil)], holds=1, kept_because=evil)
    controls = Controls(messages=[Message(evil, Mark.BAD, NOW)], calls=[evil])
    log = LogText(error=evil)
    log.add(LogLines(1, (evil,), 0, ""))
    for mode in Mode:
        controls.mode, controls.subject = mode, evil
        lines = frame(shown, controls, log, evil, Canvas(120, 30, NOW))
        assert "\\x1b" in "".join(line.plain for line in lines) or mode is Mode.HELP
        assert all(line.plain.isprintable() for line in lines)


def test_while_the_service_is_away_the_last_picture_is_grey_and_says_for_how_long() -> None:
    shown = full()
    shown.lose("cannot reach host:1: Connection refused", NOW.replace(minute=0, second=0))
    canvas = Canvas(120, 30, NOW.replace(second=12))
    title, *lines = frame(shown, on(HELD), LogText(), "host:1", canvas)
    assert title.plain == (
        "NO ANSWER for 12s, trying again: "
        "cannot reach host:1: Connection refused  (pool-service at host:1)"
    )
    rows = [line for line in lines if "READY" in line.plain]
    assert len(rows) == 2
    for line in rows:
        assert any(span.style == "dim" and span.end == len(line) for span in line.spans)


def test_a_long_address_does_not_hide_an_outage() -> None:
    shown = full()
    shown.lose("cannot reach it", NOW)
    address = f"unix:/{'very/' * 30}long"
    title = frame(shown, on(HELD), LogText(), address, Canvas(80, 24, NOW))[0].plain
    assert title.startswith(
        "NO ANSWER for 0s, trying again: cannot reach it  (pool-service at unix"
    )


def test_a_service_that_answers_but_is_not_ready_is_not_said_to_give_no_answer() -> None:
    shown = full()
    shown.lose("the service is still recovering", NOW, answers=True)
    assert screen(shown)[0].startswith("NOT READY for 0s, trying again: the service is still")


def test_what_is_wrong_stands_above_the_table() -> None:
    shown = full()
    look(shown, memory_total_bytes=GB, memory_pressured=True)
    shown.notices = ("the state directory cannot be written",)
    lines = screen(shown)
    assert lines[3] == (
        "! the machine is short of memory: unused servers are stopped first, and a start may wait"
    )
    assert lines[4] == "! the state directory cannot be written"


def test_without_a_budget_the_bar_is_of_the_memory_of_the_machine() -> None:
    shown = picture(server("m", footprint_bytes=8 * GB))
    look(shown, memory_total_bytes=16 * GB, memory_available_bytes=7 * GB)
    (line,) = [line for line in screen(shown) if line.startswith("memory")]
    assert line.split(" ", 1)[1].count("█") == line.count("░")
    assert line.endswith(" 8.0 GB used, 0 B reserved of 16.0 GB, no budget; 7.0 GB available")


def test_before_the_first_sample_no_bar_is_made_up() -> None:
    shown = picture()
    look(shown)
    assert "memory not sampled yet" in screen(shown)


def test_a_terminal_without_symbols_gets_ascii_alone() -> None:
    canvas = Canvas(120, 30, NOW, has_symbols=False)
    lines = frame(full(), on(HELD), LogText(), "host:1", canvas)
    assert all(line.plain.isascii() for line in lines)
    assert any("###==" in line.plain for line in lines)


def test_an_empty_pool_says_so_once_that_is_known() -> None:
    assert not [line for line in screen(Picture()) if "no server runs" in line]
    assert "pool-service at host:1  (waiting for the servers)" in screen(Picture())
    assert "no server runs, and the configuration lists no model" in screen(picture())


def test_a_message_about_a_model_that_was_merely_found_is_left_out() -> None:
    """It may not be one for the runtime at all."""
    shown = picture()
    problem = "has no weights"
    know(
        shown,
        [
            pb.Model(model="listed", listed=True, problem=problem),
            pb.Model(model="found", problem=problem),
        ],
    )
    assert [line for line in screen(shown) if problem in line] == ["  listed: has no weights"]


def test_a_server_that_went_leaves_the_choice_at_its_place() -> None:
    shown, controls = picture(server("a"), server("b"), server("c")), on("b")
    screen(shown, controls)
    receive(shown, removed(server("b"), revision=2))
    assert any(line.startswith("> c") for line in screen(shown, controls))


def cells_of(shown: Picture, column: str) -> dict[str, str]:
    """The cells of a column by model."""
    lines = screen(shown, width=160, height=80)
    heading = next(line for line in lines if "MODEL" in line)
    begin = heading.index(column)
    rows = lines[lines.index(heading) + 1 : lines.index("", lines.index(heading))]
    return {line[2:].split()[0]: line[begin:].split()[0] for line in rows}


def test_places_behind_those_that_are_told_are_not_shown_as_none() -> None:
    unplaced = [server("behind"), server("held", holds=1), server("pinned", pinned=True)]
    beside = server("beside", role=pb.SERVER_ROLE_SUPERSEDED)
    shown = picture(server("a"), server("chosen"), beside, *unplaced)
    assert cells_of(shown, "NEXT")["behind"] == "?"
    order = [pb.EvictionCandidate(model="a", generation=1)]
    describe(shown, "chosen", next_to_go=order, eviction_position=3, eviction_candidates=3)
    cells = cells_of(shown, "NEXT")
    assert (cells["a"], cells["behind"], cells["chosen"]) == ("1", ">1", "3")
    assert cells["held"] == cells["pinned"] == cells["beside"] == "-"
    describe(shown, "chosen", next_to_go=order, eviction_candidates=1)
    assert cells_of(shown, "NEXT")["behind"] == "-"


def test_calls_that_nobody_asked_about_are_not_shown_as_none() -> None:
    queued = server("q", state=pb.SERVER_STATE_QUEUED)
    shown = picture(queued, server("s", state=pb.SERVER_STATE_QUEUED), server("r"))
    look(shown)
    assert set(cells_of(shown, "WAITING").values()) == {"-"}
    look(shown, waiting_calls=2)
    describe(shown, "s", waiting_calls=1)
    assert cells_of(shown, "WAITING") == {"q": "?", "r": "-", "s": "1"}


def test_calls_wait_for_the_current_server_of_a_model_alone() -> None:
    beside = server("m", generation=1, role=pb.SERVER_ROLE_SUPERSEDED)
    shown = picture(beside, server("m", generation=2, state=pb.SERVER_STATE_STARTING))
    describe(shown, "m", waiting_calls=3)
    lines = screen(shown, width=160)
    column = next(line.index("WAITING") for line in lines if "WAITING" in line)
    rows = [line for line in lines if line[2:].startswith("m ")]
    assert [row[column:].split()[0] for row in rows] == ["-", "3"]


def of_hosts() -> Picture:
    shown = picture(
        server("org/first", host="mini", footprint_bytes=2 * GB),
        server("org/second", host="studio", footprint_bytes=3 * GB),
        server("org/third", host="studio", state=pb.SERVER_STATE_STARTING),
    )
    look(shown, memory_total_bytes=64 * GB)
    return shown


def test_a_fleet_shows_the_host_of_each_server_and_what_each_host_has() -> None:
    assert cells_of(of_hosts(), "HOST") == {
        "org/first": "mini",
        "org/second": "studio",
        "org/third": "studio",
    }
    said = "mini: 1 ready of 1, 2.0 GB used; studio: 1 ready of 2, 3.0 GB used"
    assert said in screen(of_hosts())
    assert any("first: http" in line and "on mini" in line for line in screen(of_hosts()))


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_shows_the_host_longer_than_memory_and_use(width: int) -> None:
    lines = screen(of_hosts(), width=width)
    heading = next(line for line in lines if "MODEL" in line).split()
    assert heading[:3] == ["MODEL", "STATE", "HOST"]
    assert all(len(line) <= width for line in lines)


def test_many_hosts_leave_room_for_the_table() -> None:
    many = [server(f"m{number}", host=f"host-{number:02}.example") for number in range(40)]
    shown = picture(*many)
    look(shown, memory_total_bytes=64 * GB)
    lines = screen(shown)
    assert sum("ready of 1" in line for line in lines) == 3
    assert any(line.startswith("> m0") for line in lines)


def test_a_pool_without_a_fleet_has_no_column_of_hosts() -> None:
    shown = picture(server("m"))
    look(shown, memory_total_bytes=64 * GB)
    assert not [line for line in screen(shown) if "HOST" in line or "ready of" in line]
