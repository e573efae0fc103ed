"""Lets services that tests start run their branches for macOS, on Linux.

    pytest -p tests.as_on_macos tests/service/test_ensure.py

By a `sitecustomize` on PYTHONPATH, so for services and their guards alone: the tests themselves
and the servers are as ever. What the kernel of macOS would say comes from a libproc that tells
from /proc; only kqueue is not there: ends of processes and writes to logs are told as on Linux.
"""

import os
import tempfile
from pathlib import Path

from tests import fake_libproc

LIBRARY = "FAKE_LIBPROC"

_DIRECTORY = str(Path(__file__).parent)
_BUILT = tempfile.TemporaryDirectory(prefix="pool-")

os.environ[LIBRARY] = fake_libproc.built(Path(_BUILT.name))._name
os.environ["PYTHONPATH"] = os.pathsep.join(
    [_DIRECTORY, *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ["GRPC_POLL_STRATEGY"] = "poll"
