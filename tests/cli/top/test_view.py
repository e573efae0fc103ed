"""Press keys and change servers under the view, over a service that follows its script."""

import grpc
import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.program import LIMIT_S, MAIN, Terminal, running, started
from tests.cli.top.viewing import ALL, PASTES_MARKED, READS_AT_ONCE, resize, top, watched
from tests.client.scripted import Gate, Refusal, Script, Stay, changed, ready, synced


def test_what_the_view_asks_by_itself_is_no_use_of_a_server(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    follows = Stay()
    service.answer("TailLogs", follows)
    service.answer("ListModels", pb.ListModelsResponse(models=[pb.Model(model="other")]))
    service.answer("Describe", pb.DescribeResponse(model="m", kept_because="it is new"))
    with top(service, terminal):
        terminal.type("jjkl")
        terminal.wait_for_screen("log of m", "q back")
        assert follows.reached.wait(LIMIT_S)
        terminal.type("qa")
        terminal.wait_for_screen("> m", "stays: it is new", "  other", ALL)
        terminal.type("d")
        terminal.wait_for_screen("description of m", "q back")
        terminal.type("q?")
        terminal.wait_for_screen("up, down, j, k", "q back")
    assert set(service.asked) == {"List", "Watch", "ListModels", "Describe", "TailLogs"}


def test_each_call_of_the_view_shows_the_token(
    service: Script, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POOL_SERVICE_TOKEN", "pst_x")
    watched(service)
    with top(service, terminal):
        terminal.wait_for_screen("> m", ALL)
    assert {"List", "Watch"} <= service.shown.keys()
    assert {header for headers in service.shown.values() for header in headers} == {"Bearer pst_x"}


def test_pasted_text_does_nothing(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal):
        terminal.wait_for(PASTES_MARKED)
        terminal.type("\x1b[200~EeyqE\n\x1b[201~?")
        terminal.wait_for_screen("up, down, j, k")
    assert service.asked.keys().isdisjoint({"Ensure", "Evict"})


def test_what_is_typed_at_once_is_no_answer_to_the_question_that_it_raises(
    service: Script, terminal: Terminal
) -> None:
    service.answer("Watch", changed(1, pinned=True), synced(1), Stay())
    with top(service, terminal):
        terminal.type("ey")
        terminal.wait_for_screen("(y/n)", ALL)
        terminal.type("n")
        terminal.wait_for_screen("nothing was stopped", ALL)
    assert not service.asked["Evict"]


def test_nothing_that_is_typed_after_q_has_an_effect(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal) as process:
        terminal.type("qE")
        assert process.wait(LIMIT_S) == 0
    assert not service.asked["Ensure"]


def test_escape_alone_leaves_a_text(service: Script, terminal: Terminal) -> None:
    watched(service)
    with top(service, terminal):
        terminal.type("?")
        terminal.wait_for_screen("up, down, j, k")
        terminal.forget()
        terminal.type("\x1b")
        terminal.wait_for("> m")


def test_a_call_under_way_does_not_hold_up_the_view(service: Script, terminal: Terminal) -> None:
    gate = Gate()
    watched(service, gate, changed(2, "another"))
    service.answer("Ensure", Stay())
    with top(service, terminal):
        terminal.type("E")
        terminal.wait_for("under way: ensure m")
        gate.open()
        terminal.wait_for("another")
        terminal.forget()
        terminal.type("k")
        terminal.wait_for("> another")
    assert service.asked["Ensure"] == [pb.EnsureRequest(model="m")]


def test_the_refusal_of_a_call_is_shown_with_its_text(service: Script, terminal: Terminal) -> None:
    watched(service)
    refusal = Refusal(
        grpc.StatusCode.FAILED_PRECONDITION, "its files are missing", "MODEL_NOT_ON_DISK"
    )
    service.answer("Ensure", refusal)
    with top(service, terminal):
        terminal.type("E")
        terminal.wait_for("ensure m: its files are missing")


def test_a_server_found_in_use_is_stopped_only_after_a_yes(
    service: Script, terminal: Terminal
) -> None:
    watched(service)
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "m has 1 request", "SERVER_IN_USE")
    service.answer("Evict", refusal)
    service.answer("Evict", pb.EvictResponse(evicted=[pb.EvictedServer(server=ready())]))
    with top(service, terminal, READS_AT_ONCE + MAIN):
        terminal.type("e")
        terminal.wait_for("Stop m all the same? (y/n) m has 1 request.")
        assert service.asked["Evict"] == [pb.EvictRequest(model="m")]
        terminal.type("y")
        terminal.wait_for("evicted m (generation 1)")
    assert service.asked["Evict"][1:] == [pb.EvictRequest(model="m", force=True)]


def test_p_pins_the_chosen_model(service: Script, terminal: Terminal) -> None:
    watched(service)
    service.answer("Pin", pb.PinResponse(pinned=True, changed=True))
    with top(service, terminal):
        terminal.type("p")
        terminal.wait_for("m: is now pinned")
    assert service.asked["Pin"] == [pb.PinRequest(model="m", pinned=True)]


def test_a_log_is_followed_until_it_is_left(service: Script, terminal: Terminal) -> None:
    watched(service)
    gate = Gate()
    lines = (pb.TailLogsResponse(generation=1, lines=[text], cursor=text) for text in "ab")
    service.answer("TailLogs", next(lines), gate, next(lines), Stay())
    with top(service, terminal):
        terminal.type("l")
        terminal.wait_for("log of m")
        terminal.wait_for("\na ")
        gate.open()
        terminal.wait_for("\nb ")
        terminal.forget()
        terminal.type("q")
        terminal.wait_for("> m")
        assert service.closed("TailLogs")


def test_a_service_that_is_still_recovering_is_said_to_answer(
    service: Script, terminal: Terminal
) -> None:
    recovering = Refusal(grpc.StatusCode.UNAVAILABLE, "it is recovering", "RECOVERING")
    service.answer("Watch", changed(1), synced(1), recovering)
    service.answer("Watch", recovering)
    resize(terminal, 120, 30)
    process = started(service, "top", stdin=terminal.writer, stdout=terminal.writer)
    with running(process):
        terminal.wait_for_screen("NOT READY for ", "s, trying again: it is recovering", ALL)


def test_the_view_outlives_the_service(service: Script, terminal: Terminal) -> None:
    gate = Gate()
    service.answer(
        "Watch", changed(1), synced(1), gate, Refusal(grpc.StatusCode.UNAVAILABLE, "it ends")
    )
    again = Gate()
    service.answer("Watch", again, changed(9, "newer"), synced(9), Stay())
    service.answer("Evict", Refusal(grpc.StatusCode.FAILED_PRECONDITION, "used", "SERVER_IN_USE"))
    with top(service, terminal):
        terminal.type("e")
        terminal.wait_for_screen("(y/n)", ALL)
        gate.open()
        terminal.wait_for("m: nothing was stopped, as the connection to the service was lost")
        terminal.wait_for_screen("NO ANSWER for ", "s, trying again", "> m ", "READY", ALL)
        again.open()
        terminal.wait_for_screen("> newer", ALL, without="NO ANSWER")
