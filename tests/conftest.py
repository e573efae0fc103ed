"""What all tests share."""

import asyncio
import ctypes
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import fake_libproc

# Read when grpc is imported: its core tells of each connection that a server closes.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# As in the service: with it a child that is made by fork, as on macOS, can die before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# Python loads the codec of host names when it first needs it, and remembers a failure. Tests that
# act as another user for a moment may be the first, and that user may not read Python's library.
"localhost".encode("idna")

# Whose tests run may use a service, with a token: no client or service here is meant by that.
for name in [name for name in os.environ if name.startswith("POOL_SERVICE_")]:
    del os.environ[name]
# Nor by the sockets of that user, which clients find by themselves.
os.environ.pop("XDG_RUNTIME_DIR", None)
os.environ["XDG_STATE_HOME"] = "/nonexistent/state"

# Plain: structlog's own default draws tracebacks with all locals, which takes seconds.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
)

# Bounded and random, so that every run looks elsewhere; a failure prints the blob that
# repeats it. No deadlines: the machine is busy with other things.
settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("ci"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


TOGETHER = ("tests/conformance/", "tests/page/browser/", "tests/whole/test_demo.py")
"""Tests of which one worker runs all: they share a stage, or the one place where they can run."""


class _Together(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Shares tests out one by one, but for those that are run together.

    The group marks of xdist 3.8 have no effect with pytest 9.2, which does not read the names
    that they change.
    """

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in TOGETHER if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Schedule tests as `_Together` says where they are distributed by groups."""
    return _Together(config, log) if config.getvalue("dist") == "loadgroup" else None


PROMISES = 7
"""Each is proven once with the real runtime by what `make test` runs.

1. One call gives a healthy endpoint or a precise error.  2. One process per model.
3. Work in flight is never killed.  4. The machine does not run out of memory.
5. Nothing is lost when the service dies.  6. Starts are fast, and slow nobody down.
7. Everything is visible, also why a server died.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all` what of the real runtime proves no promise."""
    for item in items:
        if any(item.iter_markers("whole")) and not any(item.iter_markers("promise")):
            item.add_marker(pytest.mark.long)


@pytest.fixture
def socket_dir() -> Iterator[Path]:
    """A directory for sockets, whose paths may have 103 bytes: on macOS tmp_path alone has more."""
    with tempfile.TemporaryDirectory(prefix="pool-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="session")
def libproc(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Build and load what stands for macOS's libproc on Linux."""
    return fake_libproc.built(tmp_path_factory.mktemp("libproc"))


# Else looptime makes an event loop for each test that has none, and nobody closes it.
asyncio.set_event_loop(None)

# A shell that runs the tests in the background, and nohup, let them and all that they start
# ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
