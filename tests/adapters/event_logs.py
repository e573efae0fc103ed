"""Event logs of numbered events, written and read as the service and the command line do."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue

from pool_service.adapters.event_log.event_reader import Event, read_events
from pool_service.adapters.event_log.event_writer import EventWriter

PATIENCE_S = 20
"""The longest wait for what comes at once on an idle machine."""


def events_of(directory: Path) -> list[Event]:
    return [event for event in read_events(directory) if event is not None]


def numbers(directory: Path) -> list[int]:
    return [event["n"] for event in events_of(directory) if "n" in event]


def write(directory: Path, *written: int, max_bytes: int = 10**6, pad: str = "") -> None:
    """Write numbered events by one writer after another, so that each is on disk by itself."""
    for n in written:
        with EventWriter(directory, max_bytes) as writer:
            writer.write({"kind": "test", "n": n, "pad": pad})


def told(directory: Path) -> list[tuple[str, int]]:
    """The number of each event, and of each line about lost ones how many are lost."""
    return [
        ("lost", event["lines"]) if event["kind"] == "lost" else ("n", event["n"])
        for event in events_of(directory)
    ]


def write_on(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


@contextmanager
def following(directory: Path) -> Iterator["Queue[int]"]:
    """Follow the events of a directory in a thread; yield their numbers as they come."""
    found: Queue[int] = Queue()
    is_over = threading.Event()

    def follow() -> None:
        with closing(read_events(directory, follow=True)) as events:
            for event in events:
                if event is not None:
                    found.put(event["n"])
                elif is_over.is_set():
                    return

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield found
    finally:
        is_over.set()
        thread.join(PATIENCE_S)
