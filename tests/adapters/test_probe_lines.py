"""Claims about which lines of a log are of the pool's own probes."""

from pathlib import Path

import pytest

from pool_service.adapters.logs.log_text import ONLY_PROBES, without_probes
from pool_service.adapters.logs.logs import TAIL_BYTES, last_lines

PATHS = ("/health", "/metrics", "")
POLL = 'INFO:     127.0.0.1:40000 - "GET /health HTTP/1.1" 200 OK'


@pytest.mark.parametrize(
    "line",
    [
        POLL,
        'INFO:     127.0.0.1:40002 - "GET /metrics HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:40002 - "GET /health HTTP/1.1" 503 Service Unavailable',
        # llama.cpp, http.server, and a program that writes JSON.
        "srv  log_server_r: request: GET /health 127.0.0.1 200",
        '127.0.0.1 - - [26/Nov/2026 10:00:00] "GET /health HTTP/1.1" 200 -',
        # Of servers in a fleet.
        'INFO:     10.0.0.11:40000 - "GET /health HTTP/1.1" 200 OK',
        "srv  log_server_r: request: GET /health 10.0.0.11 200",
        '{"msg": "GET /health?full=1 HTTP/1.1", "status": 200}',
    ],
)
def test_an_access_line_of_a_probe_is_left_out(line: str) -> None:
    assert without_probes([line], PATHS) == []


@pytest.mark.parametrize(
    "line",
    [
        'INFO:     127.0.0.1:40001 - "POST /v1/chat/completions HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:40001 - "GET /healthy HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:40001 - "GET /v1/health HTTP/1.1" 200 OK',
        'INFO:     127.0.0.1:40001 - "DELETE /health HTTP/1.1" 405 Method Not Allowed',
        "ERROR:    Exception in GET /health HTTP/1.1",
        '127.0.0.1 "GET /health HTTP/1.1" 500 Internal Server Error',
        "Mounted GET /health",
        "Mounted GET /health in version 1.2.3",
        "INFO:     Uvicorn running on http://127.0.0.1:40000 (Press CTRL+C to quit)",
    ],
)
def test_all_other_lines_stay(line: str) -> None:
    assert without_probes([POLL, line, POLL], PATHS) == [line]


def test_what_is_asked_decides(tmp_path: Path) -> None:
    lines = ['127.0.0.1 "POST /v1/ready HTTP/1.1" 200', '127.0.0.1 "GET /slots HTTP/1.1" 200']
    assert without_probes(lines, ()) == lines
    assert without_probes(lines, ("/v1/ready",)) == lines[1:]
    assert without_probes(lines, ("/v1/ready", "/slots")) == []


def test_the_last_lines_are_those_before_hours_of_polls(tmp_path: Path) -> None:
    log = tmp_path / "log"
    polls = f"{POLL}\n" * (3 * TAIL_BYTES // len(POLL))
    log.write_text(f"loading\nValueError: no\n{polls}")
    assert last_lines(log, probed=PATHS) == ("loading", "ValueError: no")
    assert last_lines(log)[-1] == POLL
    assert log.read_text().count(POLL) > 1000


def test_a_server_that_wrote_of_nothing_else_is_told_as_that(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(f"{POLL}\n" * 3)
    assert last_lines(log, probed=PATHS) == (ONLY_PROBES,)
    log.write_text("")
    assert last_lines(log, probed=PATHS) == ()
