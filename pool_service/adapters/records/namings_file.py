"""The runtime models that callers named, in STATE/runtime_models.json."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pool_service.adapters.system.os_errors import raise_shortage
from pool_service.adapters.system.own_files import SET_ASIDE, parse_json, read_own, write_own
from pool_service.core.names import model_flaw, runtime_model_flaw
from pool_service.core.remembered import MAX_NAMINGS

MAX_FILE_BYTES = 16 * 1024 * 1024
"""The largest file that is read: three times the size of the most and longest namings."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class FoundNamings:
    """The namings of a file. damaged: the file's name if it could not be read and was set aside."""

    namings: Mapping[str, str] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()


class NamingsFile:
    """Reads and writes all namings at once. Blocking; for one thread at a time."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "runtime_models.json"

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self._path.is_file()

    def read(self) -> FoundNamings:
        """Return the namings written last. Raises OSError only for a shortage."""
        try:
            return FoundNamings(_checked(parse_json(read_own(self._path, MAX_FILE_BYTES)[0])))
        except FileNotFoundError:
            return FoundNamings()
        except OSError as error:
            raise_shortage(error)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            pass
        self._set_aside()
        return FoundNamings(damaged=(self._path.name,))

    def write(self, namings: Mapping[str, str]) -> None:
        """Replace the file by a rename, so that it is never incomplete. Raises OSError."""
        beside = self._path.with_suffix(".tmp")
        content = {"version": _VERSION, "runtime_models": dict(namings)}
        write_own(beside, json.dumps(content).encode())
        os.replace(beside, self._path)  # noqa: PTH105  # says what it does

    def _set_aside(self) -> None:
        try:
            os.replace(self._path, f"{self._path}{SET_ASIDE}")  # noqa: PTH105
        except OSError:
            # The next write takes its place.
            return


def _checked(content: object) -> Mapping[str, str]:
    """Return the namings in a file's content. Raises ValueError and the like if it is not valid."""
    if not isinstance(content, dict) or content["version"] != _VERSION:
        raise ValueError
    namings = content["runtime_models"]
    if len(namings) > MAX_NAMINGS:
        raise ValueError
    for model, runtime_model in namings.items():
        if model_flaw(model) or runtime_model_flaw(runtime_model):
            raise ValueError
    return dict(namings)
