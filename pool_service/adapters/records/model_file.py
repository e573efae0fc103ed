"""Files that have what callers said of models: STATE/runtime_models.json and STATE/pins.json."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pool_service.adapters.system.os_errors import explain, raise_shortage
from pool_service.adapters.system.own_files import (
    SET_ASIDE,
    NotOurs,
    flush_directory,
    parse_json,
    read_own,
    write_own,
)
from pool_service.core.names import model_flaw, runtime_model_flaw
from pool_service.core.remembered import MAX_NAMINGS, MAX_PINS

MAX_FILE_BYTES = 16 * 1024 * 1024
"""The largest file that is read: three times the size of the most and longest namings."""

_VERSION = 1

Value = TypeVar("Value", str, bool)


@dataclass(frozen=True, slots=True)
class Found(Generic[Value]):
    """The content of a file. damaged: the file's name if it could not be read and was set aside."""

    content: Mapping[str, Value]
    damaged: tuple[str, ...] = ()


class _Unread(OSError):
    """A file that could not be read, and so is not replaced; the message says what to do."""


class ModelFile(Generic[Value]):
    """Keeps a value for each of many models, and reads and writes all of them at once.

    `put` is called on the event loop; the others block, and are called by one thread at a time.
    """

    def __init__(
        self, path: Path, member: str, most: int, is_valid: Callable[[object], bool]
    ) -> None:
        """member: the member of the JSON object that has the values; most: how many these are."""
        self._path = path
        self._member = member
        self._most = most
        self._is_valid = is_valid
        self._content: Mapping[str, Value] = {}
        self._is_unwritten = False
        # Why the file could not be read; empty if it could, or if there is none.
        self._flaw = ""

    def put(self, content: Mapping[str, Value]) -> None:
        """Set what the next `write` writes."""
        self._content = content
        self._is_unwritten = True

    def read(self) -> Found[Value]:
        """Return what was written last, and keep it; set a damaged file aside.

        Raises OSError if the file can be neither read nor set aside. It may have what a user said,
        so `write` does not replace it from then on.
        """
        try:
            return self._read()
        except OSError as error:
            raise_shortage(error)
            self._flaw = error.strerror or str(error)
            raise self._unread() from error

    def explain(self, error: OSError) -> str:
        """Return the message for an error of `read` or `write`: effect, cause and advice."""
        why = str(error) if isinstance(error, _Unread) else explain(error, self._path.parent)
        return f"what callers said of models is in memory only, not in {self._path}: {why}"

    def _unread(self) -> "_Unread":
        return _Unread(
            f"it could not be read ({self._flaw}) and is left as it is; make it readable and start "
            "the service again, or move it away"
        )

    def _read(self) -> Found[Value]:
        try:
            self._content = self._checked(parse_json(read_own(self._path, MAX_FILE_BYTES)[0]))
        except FileNotFoundError:
            pass
        except (NotOurs, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            os.replace(self._path, f"{self._path}{SET_ASIDE}")  # noqa: PTH105  # says what it does
            return Found({}, (self._path.name,))
        return Found(self._content)

    def write(self, *, check: bool) -> None:
        """Write the content if it is not on disk; with `check` also if the file is gone.

        A directory that is gone is made again. The file is replaced by a rename, so that it is
        never incomplete, and is on the disk itself at the end: a user has said this, and may lose
        power. Raises OSError; the next call then tries again.
        """
        if self._flaw and _exists(self._path):
            raise self._unread()
        self._flaw = ""
        is_lost = check and self._content and not self._path.is_file()
        if not (self._is_unwritten or is_lost):
            return
        # Before the content is read: a `put` meanwhile has to be written by the next call.
        self._is_unwritten = False
        content = {"version": _VERSION, self._member: dict(self._content)}
        beside = self._path.with_suffix(".tmp")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_own(beside, json.dumps(content).encode(), flushes=True)
            os.replace(beside, self._path)  # noqa: PTH105  # says what it does
            flush_directory(self._path.parent)
        except OSError:
            self._is_unwritten = True
            raise

    def _checked(self, content: object) -> Mapping[str, Value]:
        """Return the values in a file's content. Raises ValueError and the like if not valid."""
        if not isinstance(content, dict) or content["version"] != _VERSION:
            raise ValueError
        values = content[self._member]
        if len(values) > self._most:
            raise ValueError
        for model, value in values.items():
            if model_flaw(model) or not self._is_valid(value):
                raise ValueError
        return dict(values)


def _exists(path: Path) -> bool:
    """Return whether there is anything at a path. Raises OSError if that cannot be told."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def namings_file(state_dir: Path) -> ModelFile[str]:
    """Return the file of the runtime models that callers named."""
    path = state_dir / "runtime_models.json"
    return ModelFile(path, "runtime_models", MAX_NAMINGS, _is_runtime_model)


def pins_file(state_dir: Path) -> ModelFile[bool]:
    """Return the file of what callers of Pin said."""
    return ModelFile(
        state_dir / "pins.json", "pinned", MAX_PINS, lambda value: isinstance(value, bool)
    )


def _is_runtime_model(value: object) -> bool:
    return isinstance(value, str) and not runtime_model_flaw(value)
