"""The screen as text, at the widths that people have."""

from pathlib import Path
from typing import Any

import pytest

from pool_service.cli.appearance import Mark
from pool_service.cli.top.canvas import Canvas
from pool_service.cli.top.controls import Controls, Message, Mode
from pool_service.cli.top.frame import frame
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.text_views import MAX_LOG_LINES, LogText
from pool_service_client import LogEnd, LogLines, convert
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import (
    GB,
    NOW,
    at,
    describe,
    know,
    look,
    picture,
    receive,
    removed,
    screen,
    server,
)

HELD = "mlx-community/Llama-3.2-3B-Instruct-4bit"
LOADS = "mlx-community/Qwen3-Coder-30B-A3B-Instruct-4bit"
TOLD = f"{NOW.astimezone():%H:%M:%S}"
KEYS = "↑↓ choose  E ensure  e evict  p pin  l logs  d describe  a all  ? help  q quit"


def full() -> Picture:
    """A pool with something in each state."""
    held: dict[str, Any] = {
        "holds": 2,
        "footprint_bytes": 2 * GB,
        "expected_bytes": 3 * GB,
        "last_use_time": at(-12),
    }
    shown = picture(
        server(HELD, **held),
        server(
            LOADS,
            state=pb.SERVER_STATE_STARTING,
            progress=0.43,
            footprint_bytes=7 * GB,
            expected_bytes=17 * GB,
            detail="reads its weights",
        ),
        server("large", state=pb.SERVER_STATE_QUEUED, queue_position=1, detail="waits for m to go"),
        server("broken", state=pb.SERVER_STATE_FAILED, pid=0, detail="exited with code 3"),
        server("leaves", state=pb.SERVER_STATE_STOPPING, generation=4),
        server("m", expire_time=at(240), last_use_time=at(-70), generation=12),
    )
    know(shown, [pb.Model(model="unused", on_disk=True, expected_bytes=GB)])
    look(
        shown,
        servers=6,
        ready=2,
        starting=1,
        queued=1,
        stopping=1,
        failed=1,
        waiting_calls=3,
        standbys=1,
        memory_budget_bytes=40 * GB,
        memory_reserved_bytes=20 * GB,
        memory_available_bytes=30 * GB,
        memory_total_bytes=64 * GB,
    )
    order = [pb.EvictionCandidate(model="m", generation=12, freed_bytes=GB, busy=True)]
    describe(
        shown,
        HELD,
        holders=[pb.Holder(label="nightly", since=at(-180)), pb.Holder(since=at(-5))],
        holds=2,
        next_to_go=order,
        kept_because="it is held or pinned",
    )
    describe(shown, LOADS, waiting_calls=3, next_to_go=order)
    return shown


def on(model: str) -> Controls:
    return Controls(chosen=(model, 1))


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


@pytest.mark.parametrize("mode", [Mode.LOG, Mode.DESCRIPTION, Mode.HELP])
def test_an_outage_is_told_above_a_text_too(mode: Mode) -> None:
    shown = full()
    shown.lose("cannot reach it", NOW)
    canvas = Canvas(60, 10, NOW)
    controls = Controls(mode=mode, subject=HELD)
    first, title, *rest = frame(shown, controls, LogText(), "host:1", canvas)
    assert first.plain == "NO ANSWER for 0s, trying again: cannot reach it"
    assert title.plain.split()[0] in {"log", "description", "help,"}
    assert len(rest) == 8
    assert all(line.spans[-1].style == "dim" for line in rest if line.plain)


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


def test_a_refusal_is_shown_whole_in_the_lines_above_the_keys() -> None:
    text = "ensure large: the model needs 70.0 GB, more than the budget of 40.0 GB. " * 2
    controls = Controls(messages=[Message(text, Mark.BAD, NOW)], calls=["evict a", "ensure b"])
    lines = screen(full(), controls, 80, 30)
    assert " ".join(" ".join(lines[-5:-2]).split()).endswith(text.strip())
    assert lines[-2] == "under way: evict a, ensure b"


def test_a_question_is_alone_above_the_keys() -> None:
    controls = Controls(messages=[Message("old", Mark.DONE, NOW)], calls=["ensure b"])
    controls.ask_before_evicting("m", "m is held once", None)
    lines = screen(full(), controls)
    assert lines[-3:-1] == [f"{TOLD} old", "Stop m all the same? (y/n) m is held once."]


def test_the_last_messages_are_shown_with_their_times_where_there_is_room() -> None:
    later = Message("c " * 90, Mark.BAD, NOW.replace(second=7))
    controls = Controls(
        messages=[Message("a " * 90, Mark.DONE, NOW), Message("b", Mark.DONE, NOW), later]
    )
    *_, first, second, third, fourth, fifth, _keys = screen(full(), controls, 80, 24)
    assert first.startswith(f"{TOLD} a a a")
    assert first.endswith("a..")
    assert second == f"{TOLD} b"
    assert third.startswith(f"{TOLD[:-1]}7 c c c")
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
    assert f"{TOLD} ensure" in lines


@pytest.mark.parametrize("mode", [Mode.LOG, Mode.DESCRIPTION, Mode.HELP])
def test_a_text_says_that_a_question_waits_behind_it(mode: Mode) -> None:
    controls = Controls(mode=mode, subject="a")
    controls.ask_before_evicting("m", "m is held once", None)
    assert screen(picture(), controls)[-1] == "q back, to a question about m"


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


def test_the_order_of_evictions_is_told_of_the_chosen_one() -> None:
    shown = picture(server("m"))
    candidate = pb.EvictionCandidate(model="m", generation=1, freed_bytes=3 * GB)
    describe(shown, "m", next_to_go=[candidate], eviction_position=1, eviction_candidates=4)
    assert "  number 1 of 4 to be stopped for another model, which frees 3.0 GB" in screen(shown)


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


def text(controls: Controls, log: LogText | None = None, height: int = 10) -> list[str]:
    canvas = Canvas(40, height, NOW)
    lines = frame(full(), controls, log or LogText(), "host:1", canvas)
    return [line.plain for line in lines]


def test_a_log_shows_its_end_and_what_happened_to_its_processes() -> None:
    log = LogText()
    log.add(LogLines(1, tuple(f"line {place}" for place in range(50)), 2048, ""))
    log.add(LogEnd(1, convert.exit_of(pb.Exit(message="exit code 3")), ""))
    log.add(LogLines(2, ("x" * 50,), 0, ""))
    assert text(Controls(mode=Mode.LOG, subject="m"), log) == [
        "log of m",
        *(f"line {place}" for place in range(46, 50)),
        "generation 1 has ended: exit code 3",
        "generation 2",
        "x" * 40,
        "x" * 10,
        "q back  ↑↓ scroll  Home, End",
    ]


def test_a_log_scrolls_to_its_oldest_line_and_no_further() -> None:
    log = LogText()
    log.add(LogLines(1, tuple(f"line {place}" for place in range(5000)), 0, ""))
    controls = Controls(mode=Mode.LOG, subject="m", scroll=10**6)
    lines = text(controls, log)
    assert lines[1] == f"line {5000 - MAX_LOG_LINES}"
    assert lines[0] == f"log of m, {MAX_LOG_LINES - 8} rows above its end"
    assert controls.scroll == MAX_LOG_LINES - 8


def test_what_is_read_of_a_log_stays_where_it_is_when_long_lines_come() -> None:
    log, controls = LogText(), Controls(mode=Mode.LOG, subject="m", scroll=5)
    log.add(LogLines(1, tuple(f"line {place}" for place in range(50)), 0, ""))
    before = text(controls, log)[1:-1]
    controls.scroll += log.add(LogLines(1, ("x" * 100, "y"), 0, ""))
    assert text(controls, log)[1:-1] == before


def test_a_log_that_is_not_kept_says_so() -> None:
    log = LogText(error="no log of 'm' is kept")
    assert "no log of 'm' is kept" in text(Controls(mode=Mode.LOG, subject="m"), log)


def test_a_description_is_the_text_of_describe_within_the_width() -> None:
    shown = full()
    describe(shown, "m", aliases=["chat"], problem="too long for a line " * 4)
    controls = Controls(mode=Mode.DESCRIPTION, subject="m")
    lines = screen(shown, controls, 60, 20)
    assert lines[0] == "description of m"
    assert "Aliases:          chat" in lines
    (at_problem,) = [place for place, line in enumerate(lines) if line.startswith("Problem:")]
    assert lines[at_problem + 1].startswith(" " * 18 + "too long for")


def test_a_description_that_is_refused_says_why() -> None:
    shown = picture()
    controls = Controls(mode=Mode.DESCRIPTION, subject="m")
    assert "waiting for the service" in screen(shown, controls)
    shown.learn({"m": "'m' is not in the catalogue"}, anew=True)
    assert "'m' is not in the catalogue" in screen(shown, controls)


def test_what_is_longer_than_the_screen_says_how_much_follows_and_scrolls() -> None:
    controls = Controls(mode=Mode.HELP)
    first = screen(picture(), controls, 80, 12)
    assert first[0].startswith("help, ")
    assert first[0].endswith(" more rows below")
    controls.scroll = 10**6
    last = screen(picture(), controls, 80, 12)
    assert last[0] == "help"
    assert 0 < controls.scroll < 100
