"""Lets services that tests start run their branches for macOS, on Linux.

    pytest -p tests.as_on_macos tests/service/test_ensure.py

By a `sitecustomize` on PYTHONPATH, so for services and their guards alone: the tests themselves
and the servers are as ever. What the kernel of macOS would say comes from a libproc that tells
from /proc; only kqueue is not there: ends of processes and writes to logs are told as on Linux.

To import it changes nothing: its tests are collected with all others.
"""

import atexit
import os
import tempfile
from pathlib import Path

from tests import fake_libproc

LIBRARY = "FAKE_LIBPROC"


def pytest_configure() -> None:
    """Take effect, as a plugin of pytest or when called, for what this process starts."""
    built = tempfile.TemporaryDirectory(prefix="pool-")
    atexit.register(built.cleanup)
    os.environ[LIBRARY] = fake_libproc.built(Path(built.name))._name
    directories = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, directories))
    os.environ["GRPC_POLL_STRATEGY"] = "poll"
