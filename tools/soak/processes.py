"""The pool's processes as the system shows them, whatever the service says."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pool_service.adapters.process.launch import NONCE_VARIABLE
from pool_service.adapters.runtime.vllm_mlx import SERVED_MODEL_NAME
from tools.soak.models import MARK_VARIABLE


@dataclass(frozen=True, slots=True)
class Found:
    """A live process of a server, or one that it started."""

    pid: int
    created: float
    model: str
    nonce: str

    @property
    def lives(self) -> bool:
        """Whether it does now."""
        with suppress(psutil.Error):
            process = psutil.Process(self.pid)
            return process.create_time() == self.created and process.status() != "zombie"
        return False


def found(mark: str) -> list[Found]:
    """All live processes of this soak's servers and of what they started. Blocking."""
    every = (_look(pid, mark) for pid in psutil.pids())
    return [one for one in every if one is not None]


def is_server(pid: int, mark: str) -> bool:
    """Whether the process is one of this soak's, so that it may be killed."""
    return _look(pid, mark) is not None


def guards(state_dir: Path) -> list[psutil.Process]:
    """The guards of this soak's pool. Blocking."""
    running = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            words = process.cmdline()
            if "pool_service.guard" in words and str(state_dir) in words:
                running.append(process)
    return running


def zombies(pid: int) -> set[tuple[int, float]]:
    """The ended and unreaped children of a process. Blocking."""
    ended = set()
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):
                if child.status() == psutil.STATUS_ZOMBIE:
                    ended.add((child.pid, child.create_time()))
    return ended


def overlapping(processes: list[Found]) -> list[tuple[Found, Found]]:
    """Pairs of one model's processes that are of different starts and live at the same time."""
    first: dict[str, Found] = {}
    pairs = []
    for one in processes:
        other = first.setdefault(one.model, one)
        # Both still there after both were seen: they were there together.
        if other.nonce != one.nonce and other.lives and one.lives:
            pairs.append((other, one))
    return pairs


def _look(pid: int, mark: str) -> Found | None:
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        variables = process.environ()
        if variables.get(MARK_VARIABLE) != mark:
            return None
        words = process.cmdline()
        if SERVED_MODEL_NAME not in words or process.status() == psutil.STATUS_ZOMBIE:
            return None
        model = words[words.index(SERVED_MODEL_NAME) + 1]
        nonce = variables.get(NONCE_VARIABLE, "")
        return Found(pid, process.create_time(), model, nonce)
    return None
