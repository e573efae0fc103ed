"""The event loop of a front."""

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop: uvloop if it is installed, else that of asyncio.

    A call through a front takes two turns of gRPC on one loop; with uvloop the front needs a sixth
    less of a processor for it. Members keep the loop of asyncio, by which they start processes.
    """
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
