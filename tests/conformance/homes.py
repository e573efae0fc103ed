"""Homes of users: environments that name no address, and the sockets that are found from there."""

import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

OWN = "own"
"""The service's socket is where sockets are."""
DEAD = "dead"
"""There is a dead one; the service's is below the state of programs, behind a space."""
OPEN = "open"
"""As DEAD, but a stranger listens on the first, in a directory that others can enter."""

NONE = "none"
"""Nobody listens anywhere."""

IN_RUNTIME = f"{OWN}/pool-service/socket"
IN_STATE = "Application Support/pool-service/run/socket"
"""The sockets of the service, below the directory of all worlds."""


class Homes:
    """Makes the homes, and listens as the stranger until it is closed. root: of all worlds."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._stack = ExitStack()
        for name, mode in ((DEAD, 0o700), (OPEN, 0o755)):
            directory = root / name / "pool-service"
            directory.mkdir(parents=True)
            directory.chmod(mode)
            listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(directory / "socket"))
            if name == OPEN:
                listener.listen()

    def of(self, home: str) -> Mapping[str, str]:
        """Return what the environment says there."""
        state = "nothing" if home in {OWN, NONE} else "Application Support"
        return {
            "XDG_RUNTIME_DIR": str(self._root / home),
            "XDG_STATE_HOME": str(self._root / state),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
