"""What all tests share."""

import asyncio
import os
import signal

import structlog
from hypothesis import HealthCheck, settings

# Read when grpc is imported: its core tells of each connection that a server closes.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

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

# Else looptime makes an event loop for each test that has none, and nobody closes it.
asyncio.set_event_loop(None)

# A shell that runs the tests in the background, and nohup, let them and all that they start
# ignore these.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
