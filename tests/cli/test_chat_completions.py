"""What a model's server may answer, and what is made of it."""

import http.client
import io
from collections.abc import Iterator

import pytest

from pool_service.cli.chat import Conversation
from pool_service.cli.chat_completions import AnswerError, ServerUnreachable, stream
from pool_service.cli.format import safe_lines
from pool_service_client import Server, convert
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.answering import Answering, Wait, answering
from tests.signals import signal_taken_by_another_thread

ASK = [{"role": "user", "content": "?"}]


def at(endpoint: str, key: str = "") -> Server:
    return convert.server(pb.Server(endpoint=endpoint, served_model_name="m"), key)


@pytest.fixture
def model() -> Iterator[Answering]:
    with answering() as one:
        yield one


def test_an_answer_comes_piece_by_piece_with_the_options_that_were_asked_for(
    model: Answering,
) -> None:
    model.answer("a", "", "b\n")
    assert list(stream(at(model.endpoint), ASK, max_tokens=3)) == ["a", "b\n"]
    assert model.asked == [{"model": "m", "messages": ASK, "stream": True, "max_tokens": 3}]


@pytest.mark.parametrize(("key", "shown"), [("psk_x", "Bearer psk_x"), ("", None)])
def test_the_key_of_the_server_is_shown_if_it_has_one(
    model: Answering, key: str, shown: str | None
) -> None:
    model.answer("a")
    assert list(stream(at(model.endpoint, key), ASK)) == ["a"]
    assert model.shown == [shown]


def test_what_is_closed_is_no_longer_generated(model: Answering) -> None:
    waits = Wait()
    model.answer("a", waits)
    answer = stream(at(model.endpoint), ASK)
    assert next(answer) == "a"
    answer.close()
    assert waits.left.wait(20)


def test_ctrl_c_ends_a_read_that_the_signal_itself_did_not_wake(model: Answering) -> None:
    waits = Wait()
    model.answer("a", waits)
    answer = stream(at(model.endpoint), ASK)
    assert next(answer) == "a"
    assert waits.reached.wait(20)
    with pytest.raises(KeyboardInterrupt), signal_taken_by_another_thread("readinto"):
        next(answer)
    answer.close()
    assert waits.left.wait(20)


def test_where_nobody_listens_is_distinguished() -> None:
    with pytest.raises(ServerUnreachable, match="accepts no connection: Connection refused"):
        list(stream(at("http://127.0.0.1:1"), ASK))


def test_a_proxy_is_not_asked(model: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    model.answer("a")
    assert list(stream(at(model.endpoint), ASK)) == ["a"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "the answer broke off: connection closed"),
        ("data: {\n", "no chat completion"),
        ("data: []\n", "no chat completion"),
        ('data: {"choices": [7]}\n', "no chat completion"),
        ('data: {"choices": 7}\n', "no chat completion"),
        ('data: {"choices": [{"delta": null}]}\n', "no chat completion"),
        ('data: {"error": {"message": "out of memory"}}\n', "its server gave up: out of memory"),
        ('data: {"error": "no"}\n', "its server gave up: no"),
        ("data: " + "[" * 100_000 + "\n", "no chat completion"),
    ],
)
def test_what_is_no_answer_is_reported(
    body: str, words: str, model: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: object, limit: int = -1) -> bytes:
        return content.readline(limit)

    content = io.BytesIO(body.encode())
    monkeypatch.setattr(http.client.HTTPResponse, "readline", read)
    model.answer("a")
    with pytest.raises(AnswerError, match=words):
        list(stream(at(model.endpoint), ASK))


def test_a_body_whose_chunk_is_shorter_than_nothing_is_reported(
    model: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(response: http.client.HTTPResponse) -> None:
        begun(response)
        response.chunked, response.chunk_left, response.length = True, None, None
        response.fp = io.BufferedReader(io.BytesIO(b"-5\r\nabc"))

    begun = http.client.HTTPResponse.begin
    monkeypatch.setattr(http.client.HTTPResponse, "begin", begin)
    model.answer("a")
    with pytest.raises(AnswerError, match="the answer broke off"):
        list(stream(at(model.endpoint), ASK))


def test_a_question_without_any_answer_is_not_kept() -> None:
    conversation = Conversation("Be brief.")
    conversation.add("a", "")
    conversation.add("b", "B")
    said = [(one["role"], one["content"]) for one in conversation.asking("c")]
    system = ("system", "Be brief.")
    assert said == [system, ("user", "b"), ("assistant", "B"), ("user", "c")]
    conversation.clear()
    said = [(one["role"], one["content"]) for one in conversation.asking("d")]
    assert said == [system, ("user", "d")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\r\nc", "a\tb\nc"),
        ("\x1b[2J\x9b1m\x00", r"\x1b[2J\x9b1m\x00"),
        ("a\u00a0b\u3000c", "a\u00a0b\u3000c"),
        ("क\u200cष 👩\u200d👧", "क\u200cष 👩\u200d👧"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\ud800\u2028", r"\ud800\u2028"),
    ],
)
def test_prose_keeps_what_languages_need_and_commands_nothing(text: str, shown: str) -> None:
    assert safe_lines(text) == shown
