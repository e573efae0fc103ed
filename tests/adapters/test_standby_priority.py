"""How what is imported ahead gives way to others, and stops doing so when somebody waits."""

import importlib
import os
import sys
import threading

import pytest

from pool_service.adapters.children import standby_child

PROCESS, BACKGROUND = 4, 0x1000


class Channel:
    """Whose order comes while something is imported."""

    def __init__(self) -> None:
        self.importing, self.ordered = threading.Event(), threading.Event()

    @property
    def has_input(self) -> bool:
        self.importing.set()
        self.ordered.wait()
        return True

    def wait(self, _done: int) -> None:
        self.importing.wait()


@pytest.mark.parametrize(
    ("platform", "calls"),
    [
        ("darwin", [(PROCESS, 0, BACKGROUND, "the thread"), (PROCESS, 0, 0, "main")]),
        ("linux", [(os.PRIO_PROCESS, 0, 19, "the thread")]),
    ],
)
def test_an_order_in_the_middle_of_an_import_is_carried_out_in_haste(
    platform: str, calls: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, made = Channel(), list[object]()
    main = threading.get_native_id()

    def setpriority(which: int, who: int, priority: int) -> None:
        caller = "main" if threading.get_native_id() == main else "the thread"
        made.append((which, who, priority, caller))
        if priority == 0:
            # In haste before the import is waited for, not after it.
            assert not channel.ordered.is_set()

    def restore_priority() -> None:
        claimed()
        channel.ordered.set()

    claimed = standby_child.restore_priority
    monkeypatch.setattr(standby_child, "restore_priority", restore_priority)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "setpriority", setpriority)
    monkeypatch.setattr(importlib, "import_module", lambda _: None)
    standby_child.prepare(channel)  # type: ignore[arg-type]  # what is used of one
    assert made == calls
