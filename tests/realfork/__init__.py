"""Makes children as Python on macOS does: by fork, and with gRPC's engine for poll.

    pytest -p tests.realfork tests/service/test_ensure.py

On Linux Python takes vfork, which hides what a fork beside gRPC's threads can do to a child. It
holds for the tests and, by the directory on PYTHONPATH, for the services that they start.

To import it changes nothing: its tests are collected with all others.
"""

import os
from pathlib import Path


def pytest_configure() -> None:
    """Take effect, as a plugin of pytest or when called, for this process and its children."""
    from tests.realfork import sitecustomize  # noqa: F401, PLC0415  # to import it is its effect

    directories = [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, directories))
    os.environ["GRPC_POLL_STRATEGY"] = "poll"
