"""Downloads of models, by huggingface_hub of the runtime's Python (`fetch_child.py`)."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pool_service.adapters import children
from pool_service.adapters.models.files import hub_cache, locate
from pool_service.adapters.system.event_loop import lines_of
from pool_service.adapters.system.os_errors import SHORTAGES, reason
from pool_service.adapters.system.process_settings import restore_descriptor_limit
from pool_service.core.errors import FetchFailed, ModelRejected, PoolError, RuntimeUnavailable
from pool_service.ports import FetchProgress

MAX_CONCURRENT_DOWNLOADS = 2
"""The downloads at a time. One saturates most networks; a second uses the time in which the first
waits for the Hub."""

END_TIMEOUT_S = 2.0
"""Time for the download program to clean up and end when its input is closed, before SIGKILL."""

_CHILD = Path(children.__file__).with_name("fetch_child.py")
# Each table has what to do about a failure, by its kind (`kind_of` of fetch_child.py). This one is
# for models that cannot be had. The Hub's own texts are not used: it reports a model that is not
# public as missing.
_REFUSALS = {
    "absent": "the model hub has no such model, or it is not public. Correct the name, or set "
    "HF_TOKEN for the service",
    "refused": "the model hub demands a token that may read it. Accept the model's terms there, "
    "and set HF_TOKEN for the service",
}
# For failures that may pass.
_REMEDIES = {
    "disk": "Free some space",
    "network": "Check the network, and HTTPS_PROXY and HF_ENDPOINT of the service,",
}
# For failures that persist until the service's setup is changed.
_OBSTACLES = {
    "library": "Install huggingface_hub for the runtime",
    "interpreter": "Install the runtime again",
    "endpoint": "Set HF_ENDPOINT of the service to an address such as https://hub.example.com, or "
    "unset it, and start the service again",
    "token": "Correct HF_TOKEN of the service, and start it again",
    "place": "Let the service's user write to the model cache (HF_HOME), or name another one",
    "offline": "Unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE for the service and start it again, "
    "or copy the files into the model cache",
}
# No telemetry: the Hub learns of downloads only.
_SILENT = {"HF_HUB_DISABLE_TELEMETRY": "1"}

Environment = Sequence[tuple[str, str]]
_Key = tuple[str, Path]
"""A download's key: the runtime model and the cache directory."""


@dataclass(slots=True)
class _Download:
    """A running download, shared by all callers that wait for it. last: the last progress."""

    task: "asyncio.Task[dict[str, Any]] | None" = None
    watchers: list[FetchProgress] = field(default_factory=list)
    last: tuple[int, int] | None = None

    def report(self, done: int, total: int) -> None:
        """Report the progress to all watchers, and remember it for later ones."""
        self.last = done, total
        for watcher in self.watchers:
            watcher(done, total)


class Downloader:
    """Downloads models; concurrent callers share one download of a model."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(MAX_CONCURRENT_DOWNLOADS)
        self._downloads: dict[_Key, _Download] = {}

    async def fetch(
        self,
        interpreter: str,
        model: str,
        runtime_model: str,
        environment: Environment,
        progress: FetchProgress,
    ) -> None:
        """Download the missing files of `runtime_model`; does nothing for a path.

        interpreter: a Python that has huggingface_hub.
        environment: the whole environment of the download program.
        Cancelling ends the download unless other callers share it; complete files are kept.

        Raises:
            FetchFailed: the download failed; a later try may succeed.
            ModelRejected: there is no such model, or its files on the Hub cannot be loaded.
            RuntimeUnavailable: the service's setup permits no download.
        """
        if Path(runtime_model).is_absolute():
            return
        cache = hub_cache(dict(environment))
        if cache is None:
            raise _without_home(model, runtime_model)
        key = runtime_model, cache
        download = self._downloads.get(key)
        if download is None:
            download = self._downloads[key] = _Download()
            work = self._run(interpreter, runtime_model, environment, download)
            download.task = asyncio.create_task(work, name=f"download {runtime_model}")
        elif download.last is not None:
            progress(*download.last)
        result = await self._share(key, download, progress)
        files = await asyncio.to_thread(locate, runtime_model, dict(environment))
        is_complete = files is not None and files.complete
        if result.get("kind") == "offline" and is_complete:
            return
        if "ok" not in result:
            raise _failure(model, runtime_model, result)
        # Without this error the download would be repeated without end.
        if not is_complete:
            raise _not_loadable(model, runtime_model)

    async def _share(
        self, key: _Key, download: _Download, progress: FetchProgress
    ) -> dict[str, Any]:
        """Return the result of a download; cancel it when its last waiter leaves."""
        assert download.task is not None
        download.watchers.append(progress)
        try:
            return await asyncio.shield(download.task)
        finally:
            download.watchers.remove(progress)
            if not download.watchers:
                if self._downloads.get(key) is download:
                    del self._downloads[key]
                download.task.cancel()
                await asyncio.gather(download.task, return_exceptions=True)

    async def _run(
        self, interpreter: str, runtime_model: str, environment: Environment, download: _Download
    ) -> dict[str, Any]:
        """Run the download program, and return its last message (see fetch_child.py)."""
        async with self._slots:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(interpreter, "-I", str(_CHILD), runtime_model),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    env=dict(environment) | _SILENT,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                kind = "" if error.errno in SHORTAGES else "interpreter"
                return {"error": f"{interpreter} cannot be run: {reason(error)}", "kind": kind}
            restore_descriptor_limit(process.pid)
            try:
                return await _follow(process, download)
            finally:
                await asyncio.shield(_end(process))


async def _follow(process: asyncio.subprocess.Process, download: _Download) -> dict[str, Any]:
    """Read the messages of the download program, and return the last one.

    The message has "ok", or "error" and mostly "kind".
    """
    assert process.stdout is not None
    last: dict[str, Any] = {}
    async for line in lines_of(process.stdout):
        # Other lines are printed by a library.
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(line)
            if isinstance(message, dict):
                last = message
                _report_progress(download, message)
    if {"ok", "error"} & last.keys():
        return last
    return {
        "error": "its program ended without a message, perhaps because the runtime has no "
        "huggingface_hub"
    }


def _report_progress(download: _Download, message: dict[str, Any]) -> None:
    done, total = message.get("done"), message.get("total")
    if isinstance(done, int) and isinstance(total, int):
        download.report(done, total)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Close the download program's input and wait for its end; kill it if need be."""
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), END_TIMEOUT_S)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def _failure(model: str, runtime_model: str, result: dict[str, Any]) -> PoolError:
    kind = str(result.get("kind", ""))
    if kind in _REFUSALS:
        words = f"{runtime_model!r} cannot be downloaded: {_REFUSALS[kind]}."
        return ModelRejected(words, model=model)
    why = str(result.get("error", "")).rstrip(".")
    if kind in _OBSTACLES:
        words = f"{runtime_model!r} cannot be downloaded: {why}. {_OBSTACLES[kind]}."
        return RuntimeUnavailable(words, model=model)
    remedy = _REMEDIES.get(kind, "Put that right")
    return FetchFailed(
        f"The download of {runtime_model!r} failed: {why}. {remedy} and try again; files that "
        "are whole are kept.",
        model=model,
    )


def _without_home(model: str, runtime_model: str) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"{runtime_model!r} cannot be downloaded: there is no directory for it, since the "
        "service's user has no home directory. Set HF_HOME for the service, and start it again.",
        model=model,
    )


def _not_loadable(model: str, runtime_model: str) -> ModelRejected:
    return ModelRejected(
        f"{runtime_model!r} cannot be loaded: the model hub has no complete model of this name, "
        "with a config.json, a tokenizer, and weights as safetensors. Name another model.",
        model=model,
    )
