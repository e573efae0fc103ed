"""Claims about what is made of a server's answer, however it comes."""

import pytest

from pool_service.gateway.answer_parser import MAX_HEAD_BYTES, AnswerFlaw, AnswerParser

OK = b"HTTP/1.1 200 OK\r\n"


def parsed(*parts: bytes, is_closed: bool = False) -> AnswerParser:
    parser = AnswerParser()
    for part in parts:
        parser.feed(part)
    if is_closed:
        parser.end()
    return parser


def is_usable(parser: AnswerParser) -> bool:
    return parser.is_whole and parser.keeps_connection


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
        (OK + b"Content-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (OK + b"transfer-encoding: CHUNKED\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n", b"abc"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", b"abc"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
        (b"HTTP/1.1 103 Hints\r\nX-Sum: 1\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na", b"a"),
    ],
)
def test_an_answer_is_the_same_wherever_it_is_cut(raw: bytes, body: bytes) -> None:
    for cut in range(len(raw)):
        parser = parsed(raw[:cut], raw[cut:])
        assert parser.status in {200, 204}
        assert b"".join(parser.pieces) == body
        assert is_usable(parser)
        assert "X-Sum" not in parser.headers
        assert not parsed(raw[:-1]).is_whole


def test_headers_keep_their_order_and_what_is_empty_or_twice() -> None:
    head = "A: 1\r\nEmpty:\r\nB:  two words \r\na: 2\r\nC: ü\r\nContent-Length: 0\r\n\r\n"
    parser = parsed(OK + head.encode())
    assert list(parser.headers.items())[:-1] == [
        ("A", "1"),
        ("Empty", ""),
        ("B", "two words"),
        ("a", "2"),
        ("C", "ü"),
    ]


def test_an_answer_without_a_length_lasts_until_the_connection_is_closed() -> None:
    raw = OK + b"Content-Type: text/plain\r\n\r\nabc"
    assert not parsed(raw).is_whole
    parser = parsed(raw, is_closed=True)
    assert parser.pieces == [b"abc"]
    assert parser.is_whole
    assert not parser.keeps_connection


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        OK,
        OK + b"Content-Length: 3\r\n\r\nab",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
def test_an_answer_that_breaks_off_is_not_whole(raw: bytes) -> None:
    assert not parsed(raw, is_closed=True).is_whole


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n",
        OK + b"Content-Length: 0\r\n\r\nHTTP",
        OK + b"Content-Length: 0\r\nConnection: close\r\n\r\nabc",
        OK + b"Content-Length: 0\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\na",
    ],
)
def test_a_connection_that_is_to_end_or_says_too_much_takes_no_other_request(raw: bytes) -> None:
    for cut in range(len(raw)):
        parser = parsed(raw[:cut], raw[cut:])
        assert parser.is_whole
        assert not parser.keeps_connection
        assert (parser.status, parser.pieces) == (200, [])


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc",
        OK + b"A: b\nInjected: c\r\n\r\n",
        OK + b"A\x00: b\r\n\r\n",
        b"HTTP/1.1 099 X\r\nContent-Length: 1\r\n\r\na" + OK,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        OK + b"A: " + b"a" * MAX_HEAD_BYTES,
        b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD_BYTES // 20),
    ],
    ids=lambda raw: repr(raw[:60]),
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(AnswerFlaw):
        parsed(raw)
    with pytest.raises(AnswerFlaw):
        parsed(*(raw[place : place + 7] for place in range(0, len(raw), 7)))


def test_headers_behind_a_body_are_bounded() -> None:
    answer = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    with pytest.raises(AnswerFlaw):
        parsed(answer, b"X: ", *(b"a" * 1000,) * (2 * MAX_HEAD_BYTES // 1000))
