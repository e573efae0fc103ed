"""Downloads a model with the huggingface_hub of the Python that runs this file.

    PYTHON fetch_child.py MODEL

It is run by the runtime's interpreter, which need not be the service's, and so needs nothing
but that library. Each line of its output is a JSON object: {"done": bytes, "total": bytes},
at last {"ok": true} or {"error": words, "kind": one of absent, network, disk, library}. It
ends when its input does: then the service is gone.
"""

import fnmatch
import json
import os
import sys
import threading
from pathlib import Path

# What mlx-lm and mlx-vlm load; a repository may hold the same weights in other formats.
PATTERNS = ["*.json", "*.safetensors", "*.py", "*.model", "*.tiktoken", "*.txt", "*.jsonl"]
PATTERNS += ["*.jinja"]
PACE = 0.25
LONGEST = 500


def tell(**fields: object) -> None:
    os.write(1, (json.dumps(fields) + "\n").encode())


def end_with_the_service() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)


def there(snapshot: Path, blobs: Path, sizes: dict[str, int]) -> int:
    """Bytes that are on disk of the files that are wanted."""
    whole = sum(size for name, size in sizes.items() if (snapshot / name).exists())
    try:
        parts = sum(each.stat().st_size for each in blobs.glob("*.incomplete"))
    except OSError:
        parts = 0
    return min(whole + parts, sum(sizes.values()))


def download(model: str) -> None:
    # Here, so that its absence is told like any other failure.
    from huggingface_hub import HfApi, constants, snapshot_download  # noqa: PLC0415

    info = HfApi().model_info(model, files_metadata=True)
    files = {each.rfilename: each.size or 0 for each in info.siblings or ()}
    sizes = {
        name: size
        for name, size in files.items()
        if any(fnmatch.fnmatch(name, pattern) for pattern in PATTERNS)
    }
    repository = Path(constants.HF_HUB_CACHE) / f"models--{model.replace('/', '--')}"
    snapshot, blobs = repository / "snapshots" / str(info.sha), repository / "blobs"
    total, finished = sum(sizes.values()), threading.Event()

    def watch() -> None:
        while not finished.wait(PACE):
            tell(done=there(snapshot, blobs, sizes), total=total)

    tell(done=there(snapshot, blobs, sizes), total=total)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        # By the name of the branch, so that it is found by that name again.
        snapshot_download(model, allow_patterns=PATTERNS)
    finally:
        finished.set()
        watcher.join()
    tell(done=total, total=total)


def kind_of(error: Exception) -> str:
    names = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, ImportError):
        return "library"
    if names & {"RepositoryNotFoundError", "RevisionNotFoundError", "HFValidationError"}:
        return "absent"
    # What has a number of the system's is of the disk: the library's own errors have none.
    if isinstance(error, OSError) and error.errno is not None and "HTTPError" not in names:
        return "disk" if not isinstance(error, (ConnectionError, TimeoutError)) else "network"
    return "network"


def main() -> None:
    threading.Thread(target=end_with_the_service, daemon=True).start()
    try:
        download(sys.argv[1])
    except Exception as error:  # noqa: BLE001  # whatever it is, it is told
        lines = str(error).strip().splitlines() or [type(error).__name__]
        tell(error=lines[0][:LONGEST], kind=kind_of(error))
        os._exit(1)
    tell(ok=True)


if __name__ == "__main__":
    main()
