"""The runner of the Python clients: python -m conformance (asyncio|sync).

tests/conformance/README.md has its protocol.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from conformance import said
from conformance.inference import infer
from conformance.kinds import Client, Holder, Stream, Tasks, Threads, Where
from conformance.said import Json
from pool_service_client import PoolError, RetryPolicy, Server
from pool_service_client.starting import START_TIMEOUT_S, Starter
from pool_service_client.tls import TlsOptions

T = TypeVar("T")

Tell = Callable[[Json], None]

MODEL = ("runtime_model", "keep_alive", "download")
LOG = ("generation", "previous", "oldest", "cursor", "lines", "follow")
MANY_CALLERS = 256
"""Threads, of which most wait."""


def told(command: Json, *names: str) -> Json:
    """Of the command's fields those that it has."""
    return {name: command[name] for name in names if command.get(name) is not None}


def write(line: Json) -> None:
    """One line, whole, whoever writes beside it."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class Runner:
    """What the conductor has asked for; `_op_` and its name does what a command says."""

    def __init__(self, kind: type[Client]) -> None:
        self._kind = kind
        self._clients: dict[int, Client] = {}
        self._holds: dict[int, Holder] = {}
        self._seen: dict[int, dict[int, Server]] = {}
        self._give_up: dict[int, Callable[[], object]] = {}
        self._given_up: set[int] = set()

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Until there are no more commands."""
        async with asyncio.TaskGroup() as group:
            async for line in lines:
                command = json.loads(line)
                task = group.create_task(self._answer(command))
                if self._kind.CAN_BE_CANCELLED:
                    self._give_up[command["id"]] = task.cancel
            for client in self._clients.values():
                await client.close()

    async def _answer(self, command: Json) -> None:
        number = command["id"]

        def tell(event: Json) -> None:
            write({"id": number, "event": event})

        try:
            result = await getattr(self, f"_op_{command['op']}")(command, tell)
        except asyncio.CancelledError:
            write({"id": number, "error": said.cancelled()})
        except PoolError as error:
            write({"id": number, "error": said.error(error)})
        except ValueError as error:
            write({"id": number, "error": said.refused(error)})
        else:
            write({"id": number, "result": result})
        finally:
            self._give_up.pop(number, None)

    def _client(self, command: Json) -> Client:
        return self._clients[command["client"]]

    async def _op_connect(self, command: Json, _: Tell) -> Json:
        retry = RetryPolicy(**told(command, "attempts", "patience"))
        tls = TlsOptions(*map(command.get, ("ca", "cert", "key", "server_name")))
        get = command.get
        address = get("address")
        if "start" in command:
            limit_s = command.get("start_timeout", START_TIMEOUT_S)
            starter = Starter(get("program"), command["start"], limit_s)
            address = await asyncio.to_thread(starter.address)
        where = Where(address, get("token"), get("token_file"), tls)
        self._clients[command["id"]] = self._kind(where, retry)
        return {}

    async def _op_close(self, command: Json, _: Tell) -> Json:
        await self._clients.pop(command["client"]).close()
        return {}

    async def _op_calls(self, command: Json, _: Tell) -> Json:
        return dict(self._client(command).calls)

    async def _op_cancel(self, command: Json, _: Tell) -> Json:
        self._given_up.add(command["target"])
        self._give_up[command["target"]]()
        return {}

    async def _op_ensure(self, command: Json, tell: Tell) -> Json:
        options = told(command, *MODEL, "timeout")
        if command.get("progress"):
            options["on_progress"] = lambda server: tell({"server": said.value(server)})
        ensured = await self._client(command).call("ensure", command["model"], **options)
        return {"server": said.value(ensured.server), "started": ensured.started}

    async def _op_evict(self, command: Json, _: Tell) -> Json:
        options = told(command, "force", "timeout")
        if "model" in command:
            evicting = self._client(command).call("evict", command["model"], **options)
        else:
            which = "evict_idle" if command.get("idle") else "evict_all"
            evicting = self._client(command).call(which, **options)
        return {"evicted": said.value(await evicting)}

    async def _op_list(self, command: Json, _: Tell) -> Json:
        options = told(command, "page_size", "timeout")
        pages = await self._client(command).all_of("pages", **options)
        return {
            "servers": [said.value(server) for page in pages for server in page.servers],
            "pages": len(pages),
            "revision": pages[-1].revision,
            "totals": said.value(pages[-1].totals),
            "notices": list(pages[-1].notices),
        }

    async def _op_get(self, command: Json, _: Tell) -> Json:
        options = told(command, "check")
        found: Json = said.value(
            await self._client(command).call("get", command["model"], **options)
        )
        return found

    async def _op_servers(self, command: Json, _: Tell) -> Json:
        return {"servers": said.value(await self._client(command).call("list"))}

    async def _op_models(self, command: Json, _: Tell) -> Json:
        options = told(command, "found")
        return {"models": said.value(await self._client(command).call("models", **options))}

    async def _op_forget(self, command: Json, _: Tell) -> Json:
        forgotten = await self._client(command).call("forget", command["model"])
        return {"runtime_model": forgotten}

    async def _op_pin(self, command: Json, _: Tell) -> Json:
        pinning = self._client(command).call("pin", command["model"], pinned=command.get("pinned"))
        pinned: Json = said.value(await pinning)
        return pinned

    async def _op_describe(self, command: Json, _: Tell) -> Json:
        described: Json = said.value(await self._client(command).call("describe", command["model"]))
        return described

    async def _op_reload(self, command: Json, _: Tell) -> Json:
        reloaded: Json = said.value(await self._client(command).call("reload"))
        return reloaded

    async def _op_watch(self, command: Json, tell: Tell) -> Json:
        watch = self._client(command).stream("watch", command.get("after_revision"))
        async for event in self._until_given_up(command, watch):
            tell(said.event(event))
        return {}

    async def _op_logs(self, command: Json, tell: Tell) -> Json:
        options = told(command, *LOG)
        logs = self._client(command).stream("logs", command["model"], **options)
        async for part in self._until_given_up(command, logs):
            tell(said.log_part(part))
        return {}

    async def _op_pull(self, command: Json, tell: Tell) -> Json:
        options = told(command, "runtime_model")
        pull = self._client(command).stream("pull", command["model"], **options)
        async for progress in self._until_given_up(command, pull):
            tell(said.value(progress))
        return {}

    async def _until_given_up(self, command: Json, stream: Stream[T]) -> AsyncIterator[T]:
        number = command["id"]
        self._give_up[number] = stream.give_up
        async for value in stream:
            yield value
        if number in self._given_up:
            raise asyncio.CancelledError

    async def _op_hold(self, command: Json, tell: Tell) -> Json:
        options = told(command, *MODEL, "holder")
        hold = self._client(command).hold(command["model"], **options)
        self._holds[command["id"]] = hold
        try:
            async for server in self._until_given_up(command, hold):
                self._note(command["id"], server)
                tell({"server": said.value(server)})
        finally:
            hold.give_up()
        return {}

    async def _op_ready(self, command: Json, _: Tell) -> Json:
        number = command["hold"]
        after = self._seen[number][command["after"]] if "after" in command else None
        server = await self._holds[number].ready(command.get("timeout"), after)
        self._note(number, server)
        return {"server": said.value(server)}

    def _note(self, hold: int, server: Server) -> None:
        self._seen.setdefault(hold, {})[server.generation] = server

    async def _op_release(self, command: Json, _: Tell) -> Json:
        self._holds[command["hold"]].give_up()
        return {}

    async def _op_infer(self, command: Json, tell: Tell) -> Json:
        done, failed = await infer(
            self._holds[command["hold"]],
            command["count"],
            command["text"],
            command.get("parallel", 1),
            lambda done: tell({"done": done}),
        )
        return {"done": done, "failed": failed}


async def main(kind: type[Client]) -> None:
    """Serve the commands on stdin."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(MANY_CALLERS))
    lines = asyncio.StreamReader(limit=1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await Runner(kind).run(lines)


KINDS: Mapping[str, type[Client]] = {"asyncio": Tasks, "sync": Threads}

if __name__ == "__main__":
    asyncio.run(main(KINDS[sys.argv[1]]))
