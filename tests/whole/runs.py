"""Starts the real vllm-mlx as the pool does, without the pool."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.probe.probe import HttpProbe
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.registry import diagnose_of
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.core.server import StopSignal
from pool_service.core.types import ExitReport, Identity, LaunchPlan, Settings
from pool_service_client import Server

MODEL = "vllm-mlx/a model"
OFFLINE = (("HF_HUB_OFFLINE", "1"),)
PROBE_TIMEOUT = 10.0


class Runs:
    """Starts the real program as the pool does."""

    def __init__(self, root: Path) -> None:
        self.options = RuntimeOptions(data_dir=root, environment=OFFLINE, server_keys=False)
        self.processes = LocalProcesses(
            root / "state",
            LogStore(root / "state"),
            diagnose_of=diagnose_of,
        )
        self.identities: list[Identity] = []

    async def start(self, runtime_model: str, *more: str) -> tuple[Identity, LaunchPlan]:
        options = replace(self.options, command=(*self.options.command, *more))
        plan = await CommandRuntime(options).prepare(MODEL, Settings(runtime_model))
        spawned = await self.processes.spawn(MODEL, 1, plan)
        self.identities.append(spawned.identity)
        return spawned.identity, plan

    async def ready(self, runtime_model: Path, *more: str) -> tuple[Identity, LaunchPlan, str]:
        identity, plan = await self.start(str(runtime_model), *more)
        endpoint = await HttpProbe().ready(identity, plan, PROBE_TIMEOUT)
        assert isinstance(endpoint, str), await self.processes.exited(identity)
        return identity, plan, endpoint

    async def failure(self, runtime_model: str, *more: str) -> ExitReport:
        identity, _ = await self.start(runtime_model, *more)
        return await self.processes.exited(identity)

    async def close(self) -> None:
        for identity in self.identities:
            await self.processes.signal(identity, StopSignal.KILL)
            await self.processes.exited(identity)
            await self.processes.clean_up(identity)


def headers(server: Server) -> dict[str, str]:
    """The headers of a request with JSON to a server of the pool."""
    return {"Content-Type": "application/json", "Authorization": f"Bearer {server.api_key}"}


def ask(
    endpoint: str, path: str, body: object = None, more: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    host = endpoint.removeprefix("http://")
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        sent = {"Content-Type": "application/json", **(more or {})}
        connection.request("POST" if body else "GET", path, json.dumps(body), sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
