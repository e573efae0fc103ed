"""Errors of the operating system: passing shortages, and advice for error messages."""

import errno
from pathlib import Path

SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""Errors that pass when other programs free resources; no event says when."""


def raise_shortage(error: OSError) -> None:
    """Raise the error if it reports a shortage instead of a property of the file or process."""
    if error.errno in SHORTAGES:
        raise error


_ADVICE = {
    errno.ENOSPC: "free some space on the disk that holds {state_dir}",
    errno.EDQUOT: "the service's user has used up the quota on the disk that holds {state_dir}",
    errno.EFBIG: "raise the service's limit on file sizes (ulimit -f)",
    errno.ENOTDIR: "name a --state-dir that is a directory",
    errno.EEXIST: "name a --state-dir that is a directory",
    errno.EROFS: "name a --state-dir that can be written",
    errno.EACCES: "make {state_dir} writable for the service's user, or name another --state-dir",
    errno.EPERM: "make {state_dir} writable for the service's user, or name another --state-dir",
    errno.EMFILE: "raise the service's limit on open files (ulimit -n)",
    errno.ENFILE: "the machine has too many files open; close some programs",
    errno.EAGAIN: "raise the service's limit on processes and threads (ulimit -u, TasksMax, "
    "pids.max), or evict what is not needed",
    errno.E2BIG: "its arguments and environment are too long; shorten them",
    errno.ENOMEM: "the machine has no memory left; evict a model or close some programs",
}


def explain(error: OSError, state_dir: Path) -> str:
    """Return the rest of an error message, after what could not be done: cause, file and advice."""
    advice = _ADVICE.get(error.errno or 0, "see the service's log").format(state_dir=state_dir)
    return f"{reason(error)}: {advice}"


def reason(error: OSError) -> str:
    """Return the system's text for an error, with its file and without its number."""
    cause = error.strerror or str(error)
    at = f" ({error.filename})" if error.filename and not isinstance(error.filename, int) else ""
    return f"{cause}{at}"
