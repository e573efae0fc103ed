"""Standbys of a small program, in the place of one that imports a runtime ahead."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.probe.ready_notify import ReadyNotifications
from pool_service.adapters.process.launch import Child
from pool_service.adapters.standby.process import StandbySpec
from pool_service.adapters.standby.standbys import Standbys
from pool_service.core.types import Identity, LaunchPlan, Settings

LONG = 1000.0
SETTINGS = Settings(runtime_model="")

# Speaks as `standby_child.py` does. What else it does is in its environment, by DOES.
CHILD = """
import json, os, signal, socket, sys
does, channel = os.environ.get("DOES", ""), socket.socket(fileno=os.dup(0))
def tell(**fields):
    try:
        channel.sendall((json.dumps(fields) + "\\n").encode())
    except OSError:
        sys.exit(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
tell(stamps={os.environ["STAMPED"]: os.stat(os.environ["STAMPED"]).st_mtime_ns})
if does == "fails":
    print("ahead", "no module named mlx", sep="\\n", file=sys.stderr)
    sys.exit(1)
if does == "junk":
    channel.sendall(b"junk\\n")
    signal.pause()
if does == "never warm":
    signal.pause()
tell(warm=True, working_set=int(os.environ.get("WORKING_SET", "0")))
if does == "stays":
    signal.pause()
try:
    line, logs, _, _ = socket.recv_fds(channel, 65536, 1)
except OSError:
    line = b""
if not line:
    sys.exit(0)
os.dup2(logs[0], 1)
if does == "refuses":
    sys.exit(1)
if does == "closes":
    channel.close()
    signal.pause()
if does == "refuses in other words":
    channel.sendall(b"no\\n")
    signal.pause()
argv = json.loads(line)["argv"]
print(*argv, flush=True)
tell(taken=True)
if does != "not ready":
    tell(ready=True)
channel.close()
signal.pause()
"""
SCRIPT = """#!{python}
import re
import sys
from vllm_mlx.cli import main
if __name__ == "__main__":
    sys.argv[0] = re.sub("x", "", sys.argv[0])
    sys.exit(main())
"""


class Kept:
    """Standbys of one program, and the servers that they became."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_dir = root / "state"
        python = root / "python-light"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
        python.chmod(0o755)
        self.program = root / "vllm-mlx"
        self.program.write_text(SCRIPT.format(python=python))
        self.environment = {"STAMPED": str(self.program)}
        self.notifications = ReadyNotifications()
        self.logs = LogStore(self.state_dir)
        self.working_sets: list[int] = []
        self.recipe_error: Exception | None = None
        self.standbys = Standbys(
            self._spec, self.state_dir, self.logs, self.notifications, self.working_sets.append
        )
        self.started: list[Child] = []

    async def _spec(self, settings: Settings) -> StandbySpec:
        if self.recipe_error:
            raise self.recipe_error
        return self.spec(dict(settings.environment))

    def spec(self, more: Mapping[str, str] | None = None) -> StandbySpec:
        environment = self.environment | dict(more or {})
        return StandbySpec(str(self.program), tuple(sorted(environment.items())))

    def plan(self, *arguments: str, more: Mapping[str, str] | None = None) -> LaunchPlan:
        argv = (str(self.program), "serve", *arguments)
        return LaunchPlan(argv, self.spec(more).environment, None, "/", "m", "n", "vllm-mlx")

    def keep(
        self,
        allowed: int = 1,
        *,
        wanted: int = 9,
        refill: bool = True,
        settings: Settings = SETTINGS,
    ) -> None:
        self.standbys.keep(settings, wanted=wanted, allowed=allowed, refill=refill)

    async def filled(self, count: int = 1) -> tuple[Identity, ...]:
        """The standbys, once so many are warm."""
        self.keep(count)
        await until(lambda: self.standbys.count == count)
        return self.standbys.identities

    async def start(
        self, *arguments: str, model: str = "m", more: Mapping[str, str] | None = None
    ) -> Child | None:
        child = await self.standbys.start(model, 1, self.plan(*arguments, more=more))
        if child:
            self.started.append(child)
        return child

    async def close(self) -> None:
        await self.standbys.close()
        for child in self.started:
            child.popen.kill()
            child.popen.wait()
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing tells it to this process
            await asyncio.sleep(0.001)


def said(child: Child | None) -> str:
    """What a server has written to its log."""
    assert child is not None
    return child.log_path.read_text()
