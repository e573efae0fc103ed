"""Makes children as Python on macOS does: by fork, and with gRPC's engine for poll.

    pytest -p tests.realfork tests/service/test_ensure.py

On Linux Python takes vfork, which hides what a fork beside gRPC's threads can do to a child. It
holds for the tests and, by the directory on PYTHONPATH, for the services that they start.
"""

import os
from pathlib import Path

from tests.realfork import sitecustomize

__all__ = ["sitecustomize"]

_DIRECTORY = str(Path(__file__).parent)

os.environ["PYTHONPATH"] = os.pathsep.join(
    [_DIRECTORY, *filter(None, [os.environ.get("PYTHONPATH")])]
)
os.environ["GRPC_POLL_STRATEGY"] = "poll"
