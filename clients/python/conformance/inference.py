"""Chat completions on a server's endpoint, as a caller of the pool makes them."""

import asyncio
import json
import urllib.request
from collections.abc import Callable
from urllib.error import URLError

from conformance.kinds import Holder
from pool_service_client import Server


def complete(server: Server, text: str) -> None:
    """One answer, whole. Raises ConnectionRefusedError, or OSError where it broke later."""
    body = {"model": server.served_model_name, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(  # noqa: S310 - the pool's own endpoints
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"},
    )
    try:
        with urllib.request.urlopen(request) as response:  # noqa: S310
            json.load(response)["choices"][0]
    except URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            raise error.reason from error
        raise


async def succeeds(hold: Holder, text: str) -> bool:
    """Whether there was an answer; one that could not connect asks the next server."""
    server = await hold.ready(None, None)
    while True:
        try:
            await asyncio.to_thread(complete, server, text)
        except ConnectionRefusedError:
            server = await hold.ready(None, server)
        except (OSError, ValueError):
            return False
        else:
            return True


async def infer(
    hold: Holder, count: int, text: str, parallel: int, tell: Callable[[int], None]
) -> tuple[int, int]:
    """So many, so many at a time; how many were answered and how many failed.

    tell: how many are done, after each that is.
    """
    left, outcomes = iter(range(count)), list[bool]()

    async def work() -> None:
        for _ in left:
            outcomes.append(await succeeds(hold, text))
            if outcomes[-1]:
                tell(outcomes.count(True))

    await asyncio.gather(*(work() for _ in range(parallel)))
    return outcomes.count(True), outcomes.count(False)
