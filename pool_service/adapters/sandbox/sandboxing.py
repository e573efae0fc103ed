"""Decides which servers are confined, and to what."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import structlog

from pool_service.adapters.models.files import hub_cache
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.launch_plan import option_value
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import python_of
from pool_service.adapters.sandbox.places import model_places, named_places, narrow_places
from pool_service.adapters.sandbox.support import SandboxSupport, sandbox_support
from pool_service.core.errors import RuntimeUnavailable
from pool_service.core.types import Sandbox
from pool_service.paths import PathFlaw, home_directory

_log = structlog.get_logger(__name__)

PORT = "--port"

MAX_REMEMBERED = 32
"""Models outside of all stores whose directories standbys may read."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A runtime's program and the arguments and variables of its processes.

    program: its file. arguments: those that the configuration adds. has_tools: the runtime starts
    programs as tools for its model.
    """

    options: RuntimeOptions
    program: Path
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    has_tools: bool = False


class Sandboxing:
    """Decides about the sandboxes of servers and standbys.

    state_dir: the service's, which no server may read.
    """

    def __init__(self, state_dir: Path, support: SandboxSupport | None = None) -> None:
        # HOME may be another one than the user's own.
        found = (home_directory(os.environ), home_directory({}))
        homes = (one for one in found if one and _is_own(one))
        private = dict.fromkeys(os.path.realpath(one) for one in (state_dir, *homes))
        self._private = tuple(one for one in private if one != os.sep)
        self._support = support or sandbox_support()
        # Why servers of a program are not confined, as it was logged.
        self._logged: set[tuple[Path, str]] = set()
        # Places of models that no store holds: standbys may become their servers again.
        self._remembered: dict[str, None] = {}

    async def obstacle(self, subject: Subject) -> str:
        """Return why processes are not confined; empty if they are."""
        options = subject.options
        if options.sandbox == "off":
            return 'sandbox is "off"'
        if options.sandbox == "auto":
            reason = self._support.doubt() or _why_not_by_itself(subject)
            if reason:
                return reason
        return await self._support.flaw(_interpreter(subject), self._private)

    async def of_server(
        self, model: str, subject: Subject, paths: Sequence[Path], port: int | None
    ) -> Sandbox | None:
        """Return the sandbox of a server that loads the models at these paths; None: none.

        port: that it is told to take, if any. Raises RuntimeUnavailable if it cannot be confined
        and has to be, ModelRejected, OSError.
        """
        if not await self._is_confined(model, subject):
            return None
        stores = self._stores(subject)
        places = model_places(model, paths, stores, self._private)
        self._remember(places, stores)
        return self._sandbox((*places, *self._configured(subject)), subject, port)

    async def of_standbys(self, subject: Subject) -> Sandbox | None:
        """Return the sandbox of standbys, which holds those of the servers that they may become.

        None: none. Raises RuntimeUnavailable.
        """
        if not await self._is_confined("", subject):
            return None
        readable = (*self._stores(subject), *self._remembered, *self._configured(subject))
        return self._sandbox(readable, subject, None)

    def _sandbox(self, readable: Iterable[str], subject: Subject, port: int | None) -> Sandbox:
        # Sorted: the same permissions are equal, whatever order they were found in.
        readable = tuple(sorted({*readable}))
        leaves = subject.options.leaves_loopback
        return Sandbox(readable, _ports(subject, port), self._private, leaves_loopback=leaves)

    async def _is_confined(self, model: str, subject: Subject) -> bool:
        obstacle = await self.obstacle(subject)
        if not obstacle:
            return True
        if subject.options.sandbox == "on":
            raise RuntimeUnavailable(
                f"The runtime '{subject.program}' is not run, because it cannot be confined: "
                f'{obstacle}. Set sandbox = "auto" in its section to run it without.',
                model=model,
            )
        is_meant = subject.options.sandbox == "off" or not _is_ours(subject)
        if not is_meant and (subject.program, obstacle) not in self._logged:
            self._logged.add((subject.program, obstacle))
            _log.warning("servers are not confined", program=str(subject.program), why=obstacle)
        return False

    def _stores(self, subject: Subject) -> tuple[str, ...]:
        """Return where models are: the Hub's cache, and the directories of configured ones."""
        try:
            cache = hub_cache(dict(subject.environment))
        except PathFlaw:
            cache = None
        caches = [str(cache)] if cache is not None else []
        stores = (*caches, *subject.options.model_directories)
        return (*narrow_places(stores, self._private), *_readable(subject))

    def _configured(self, subject: Subject) -> tuple[str, ...]:
        """Return what the configuration lets servers read, and names in their arguments."""
        named = named_places(subject.arguments, self._private)
        program = narrow_places(_program_places(subject), self._private)
        return (*named, *program, *_readable(subject))

    def _remember(self, places: Iterable[str], stores: Sequence[str]) -> None:
        """Remember places that are in no store."""
        for place in places:
            if any(PurePath(place).is_relative_to(store) for store in stores):
                continue
            self._remembered.pop(place, None)
            self._remembered[place] = None
        for oldest in list(self._remembered)[:-MAX_REMEMBERED]:
            del self._remembered[oldest]


def _is_own(home: Path) -> bool:
    """Return whether a home is the user's own: accounts of the system share theirs with it."""
    try:
        return home.stat().st_uid == os.geteuid()
    except OSError:
        return True


def _why_not_by_itself(subject: Subject) -> str:
    """Return why processes of a program are not confined unless told so."""
    if not _is_ours(subject):
        return 'other programs than vllm-mlx are only with sandbox = "on"'
    if python_of(subject.program) is None:
        return "its program is no Python script"
    if subject.has_tools:
        return f"its tools ({vllm_mlx.TOOLS}) may need the network and your files"
    return ""


def _is_ours(subject: Subject) -> bool:
    """Return whether a runtime is vllm-mlx, and treated as such."""
    options = subject.options
    return options.is_vllm_mlx_itself and options.effective_kind == "vllm-mlx"


def _interpreter(subject: Subject) -> str:
    """Return the Python that confines the processes: their own, or the service's."""
    python = python_of(subject.program) if _is_ours(subject) else None
    return python[0] if python else sys.executable


def _readable(subject: Subject) -> tuple[str, ...]:
    """Return the directories that the configuration lets servers read, private or not."""
    return tuple(os.path.realpath(one) for one in subject.options.sandbox_readable)


def _ports(subject: Subject, port: int | None) -> tuple[int, ...] | None:
    """Return the ports to listen on; None if any program may have chosen its own."""
    if port is not None:
        return (port,)
    told = option_value(subject.arguments, PORT) or ""
    if told.isdecimal():
        return (int(told),)
    return (0,) if _is_ours(subject) else None


def _program_places(subject: Subject) -> Iterator[str]:
    """Yield what a program needs of its own installation.

    vllm-mlx finds that out itself, where it confines itself.
    """
    program = subject.program
    yield str(program)
    if _is_ours(subject) and sys.platform == "linux":
        return
    python = python_of(program)
    for file in (program, *([Path(python[0])] if python else [])):
        for one in (file, Path(os.path.realpath(file))):
            place = one.parent
            yield str(place.parent if place.name == "bin" else place)
