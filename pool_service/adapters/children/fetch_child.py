"""The download program: fetches a model by huggingface_hub of the Python that runs this file.

    PYTHON fetch_child.py MODEL [clear]

The runtime's interpreter runs this file, so it imports only the standard library and
huggingface_hub. It prints JSON objects, one a line: {"done": bytes, "total": bytes}, and at last
{"ok": true} or {"error": text, "kind": a result of `kind_of`}. The end of its input means that
nobody waits for the model any more, or that the service is gone: the program then executes itself
with `clear`, which deletes partial files that the next download could not use.
"""

import errno
import fcntl
import fnmatch
import json
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

# What mlx-lm and mlx-vlm load; a repository may hold the same weights in other formats.
PATTERNS = ["*.json", "*.safetensors", "*.py", "*.model", "*.tiktoken", "*.txt", "*.jsonl"]
PATTERNS += ["*.jinja"]
REPORT_INTERVAL_S = 0.25

CONNECT_TIMEOUT_S = 1.5
"""For a first connection to the Hub, name resolution included.

A missing network is so reported within seconds, while the library tries for a minute. A connection
whose first packet was lost still succeeds in this time.
"""

MAX_ADDRESSES = 8
OFFLINE = {"1", "ON", "YES", "TRUE"}
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
MAX_ERROR_CHARS = 500
CLEAR = "clear"

# The kinds of failures by the names of their classes: the HTTP library beneath differs from
# version to version.
KINDS = {
    "OfflineModeIsEnabled": "offline",
    "GatedRepoError": "refused",
    "RepositoryNotFoundError": "absent",
    "RevisionNotFoundError": "absent",
    "HFValidationError": "absent",
    "ImportError": "library",
    "UnsupportedProtocol": "endpoint",
    "InvalidURL": "endpoint",
    "MissingSchema": "endpoint",
    "InvalidSchema": "endpoint",
    # The head of a request must be ASCII.
    "UnicodeEncodeError": "token",
    "LocalProtocolError": "token",
}
STATUSES = {401: "refused", 403: "refused", 404: "absent"}
ERRNOS = {errno.ENOSPC: "disk", errno.EDQUOT: "disk"}
ERRNOS |= dict.fromkeys(
    (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST), "place"
)
# For failures without a class or number of their own: in the library's Rust part, and of a URL
# that it parses when it is imported.
PHRASES = {"No space left": "disk", "Invalid IPv6 URL": "endpoint"}
CONNECTION_ERRORS = {"HTTPError", "RequestException", "ConnectionError", "TimeoutError"}


def report(**fields: object) -> None:
    """Print one message."""
    os.write(1, (json.dumps(fields) + "\n").encode())


def clear_at_end_of_input(model: str) -> None:
    """Wait for the end of the input, then replace this process by one that deletes partial files.

    That ends all other threads and releases the library's locks.
    """
    while os.read(0, 1):
        pass
    os.execv(sys.executable, [sys.executable, "-I", __file__, model, CLEAR])  # noqa: S606


def repository_of(model: str) -> Path:
    """Return the directory of a model in the cache."""
    from huggingface_hub import constants  # noqa: PLC0415

    return Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"


def delete_partial_files(repository: Path) -> None:
    """Delete partial files that no process downloads any more.

    Since version 2 the library gives each a unique name and never resumes one.
    """
    locks = repository.parent / ".locks" / repository.name
    for part in (repository / "blobs").glob("*.*.incomplete"):
        etag = part.name.partition(".")[0]
        # If the lock is taken, another process is downloading the file.
        with suppress(OSError), (locks / f"{etag}.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def bytes_on_disk(snapshot: Path, blobs: Path, sizes: dict[str, int]) -> int:
    """Return the bytes of the wanted files that are on disk."""
    whole = sum(size for name, size in sizes.items() if (snapshot / name).exists())
    try:
        parts = sum(each.stat().st_size for each in blobs.glob("*.incomplete"))
    except OSError:
        parts = 0
    return min(whole + parts, sum(sizes.values()))


def report_progress(
    repository: Path, commit: str, sizes: dict[str, int], finished: threading.Event
) -> None:
    """Report the progress until `finished`.

    The sum falls for a moment while the library moves a file into place; that is not reported.
    """
    total, done = sum(sizes.values()), -1
    while True:
        now = bytes_on_disk(repository / "snapshots" / commit, repository / "blobs", sizes)
        if now > done:
            done = now
            report(done=done, total=total)
        if finished.wait(REPORT_INTERVAL_S):
            return


class ConnectionTest:
    """A first connection to the Hub or its proxy, made in the background as a test."""

    def __init__(self) -> None:
        self._until = time.monotonic() + CONNECT_TIMEOUT_S
        self._address = first_address()
        self._outcomes = queue.SimpleQueue[OSError | None]()
        if self._address is not None:
            threading.Thread(target=self._resolve, args=self._address, daemon=True).start()

    def check(self) -> None:
        """Wait until any address has accepted. Raises ConnectionError if none does in time."""
        if self._address is None:
            return
        host, port = self._address
        try:
            failure = self._outcomes.get(timeout=max(self._until - time.monotonic(), 0.0))
        except queue.Empty:
            why = f"{host}:{port} does not answer within {CONNECT_TIMEOUT_S:g} s"
            raise ConnectionError(why) from None
        if isinstance(failure, socket.gaierror):
            raise ConnectionError(f"{host} has no address ({failure.strerror})")
        if failure is not None:
            raise ConnectionError(f"{host}:{port} cannot be reached ({failure.strerror})")

    def _resolve(self, host: str, port: int) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[:MAX_ADDRESSES]
        except (OSError, UnicodeError) as error:
            self._outcomes.put(error if isinstance(error, OSError) else OSError(0, str(error)))
            return
        left = [len(found)]
        for family, kind, protocol, _, address in found:
            arguments = (family, kind, protocol, address, left)
            threading.Thread(target=self._connect, args=arguments, daemon=True).start()

    def _connect(
        self, family: int, kind: int, protocol: int, address: tuple[Any, ...], left: list[int]
    ) -> None:
        """Try one address; the last one to fail (`left` counts them) reports its error."""
        try:
            with socket.socket(family, kind, protocol) as connection:
                connection.settimeout(CONNECT_TIMEOUT_S)
                connection.connect(address)
        except OSError as error:
            left[0] -= 1
            # A timeout needs no report: `check` gives up at the same time.
            if left[0] == 0 and not isinstance(error, TimeoutError):
                self._outcomes.put(error)
        else:
            self._outcomes.put(None)


def first_address() -> tuple[str, int] | None:
    """Return the host and port that the library connects to first; None if not known."""
    if any(os.environ.get(name, "").upper() in OFFLINE for name in OFFLINE_VARIABLES):
        return None
    try:
        place = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
        proxies = getproxies()
        proxy = proxies.get(place.scheme) or proxies.get("all") or ""
        if proxy and place.hostname and not proxy_bypass(place.hostname):
            place = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        port = place.port or PORTS.get(place.scheme)
    except ValueError:
        return None
    return (place.hostname, port) if place.hostname and port else None


def download(model: str) -> None:
    """Download the files of a model, and report the progress. Raises any error of the library."""
    connection_test = ConnectionTest()
    # Imported here, so that its absence is reported as an error.
    from huggingface_hub import HfApi, snapshot_download  # noqa: PLC0415

    connection_test.check()
    info = HfApi().model_info(model, files_metadata=True)
    files = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    sizes = {
        name: size
        for name, size in files.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in PATTERNS)
    }
    repository, finished = repository_of(model), threading.Event()
    delete_partial_files(repository)
    watcher = threading.Thread(
        target=report_progress, args=(repository, str(info.sha), sizes, finished)
    )
    watcher.start()
    try:
        # By the branch, not by `info.sha`, so that the cache records the branch's revision.
        snapshot = Path(snapshot_download(model, allow_patterns=PATTERNS))
    finally:
        finished.set()
        watcher.join()
    # If the Hub fails after its first answer, the library accepts an incomplete snapshot.
    missing = [name for name in sizes if not (snapshot / name).is_file()]
    if missing:
        raise ConnectionError(f"{missing[0]} has not arrived")
    report(done=sum(sizes.values()), total=sum(sizes.values()))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def kind_of(failure: BaseException) -> str:
    """Return the kind of a failure, a value of KINDS, STATUSES, ERRNOS or PHRASES, or "other"."""
    for error in causes(failure):
        kind = kind_of_one(error)
        if kind:
            return kind
    return next((kind for words, kind in PHRASES.items() if words in str(failure)), "other")


def kind_of_one(error: BaseException) -> str:
    """Return the kind of an error regardless of its causes; "" if not known."""
    names = {cls.__name__ for cls in type(error).__mro__}
    for name, kind in KINDS.items():
        if name in names:
            return kind
    status = getattr(getattr(error, "response", None), "status_code", 0)
    number = getattr(error, "errno", None) or 0
    otherwise = "network" if names & CONNECTION_ERRORS else ""
    return STATUSES.get(status) or ERRNOS.get(number) or otherwise


def main() -> None:
    model = sys.argv[1]
    if sys.argv[2:] == [CLEAR]:
        delete_partial_files(repository_of(model))
        return
    threading.Thread(target=clear_at_end_of_input, args=(model,), daemon=True).start()
    try:
        download(model)
    except Exception as error:  # noqa: BLE001  # every failure is reported
        lines = str(error).strip().splitlines() or [type(error).__name__]
        report(error=lines[0][:MAX_ERROR_CHARS], kind=kind_of(error))
        os._exit(1)
    report(ok=True)


if __name__ == "__main__":
    main()
