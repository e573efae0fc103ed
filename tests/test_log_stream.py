import logging
import os
import subprocess
import sys
from pathlib import Path

import structlog

from pool_service.log_stream import LogStream

UNREAD = """
import structlog, sys
from pool_service.log_stream import LogStream
from pool_service.logging_setup import configure_logging
with LogStream(sys.stderr, max_lines=100) as stream:
    configure_logging("text", "info", stream)
    for number in range(3_000):
        structlog.get_logger("x").info("line", number=number)
    print("all are logged", flush=True)
    sys.stdin.readline()
"""


def test_what_is_written_is_there_when_the_context_is_left_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as target, LogStream(target) as stream:
        for number in range(1000):
            stream.write(f"{number}\n")
    assert (tmp_path / "log").read_text().split() == [str(number) for number in range(1000)]


def test_it_goes_to_the_descriptor_of_a_real_stream(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as target, LogStream(target) as stream:
        stream.write("ü \udcff\n")
    assert (tmp_path / "log").read_text() == "ü \\udcff\n"


def test_without_a_stderr_lines_go_nowhere() -> None:
    with LogStream(None) as stream:
        assert stream.write("x\n") == 2
        assert not stream.isatty()


def test_a_reader_that_has_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as target, LogStream(target) as stream:
        stream.write("x\n")


def test_unread_lines_block_nobody_and_their_loss_is_reported_when_there_is_space_again() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", UNREAD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == "all are logged\n"
        first = process.stderr.readline()
        lines = iter(process.stderr.readline, "")
        told = next(line for line in lines if "were dropped" in line)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 0
    assert "number=0" in first
    assert "lines=" in told


def test_the_end_does_not_wait_for_who_does_not_read() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", UNREAD],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.wait() == 0


def test_lines_dropped_are_counted_to_the_last() -> None:
    reader, writer = os.pipe()
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Handler()
    logger = logging.getLogger("pool_service.log")
    before = structlog.get_config()
    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    logger.addHandler(handler)
    try:
        with os.fdopen(writer, "w") as target, LogStream(target, max_lines=2) as stream:
            size = 1 << 20  # more than a pipe holds: the thread is stuck with it
            stream.write("x" * size)
            os.read(reader, 1)
            for number in range(5):
                stream.write(f"{number}\n")
            left = size - 1 + len("0\n1\n")
            while left:
                left -= len(os.read(reader, left))
    finally:
        logger.removeHandler(handler)
        structlog.configure(**before)
        os.close(reader)
    assert len(records) == 1
    assert "3" in str(records[0].msg)
