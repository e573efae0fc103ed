"""A plain reverse proxy in front of an endpoint, as a pool on the data path has.

    python -m tools.bench.reverse_proxy UPSTREAM_PORT

It reads each request whole, looks up which model it names, and sends it on by a connection
that is kept; what comes back is passed on as it comes. Prints the port on which it listens.
"""

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tools.bench.by_hand import POLL, await_health, end, spawn
from tools.bench.turns import free_port

CHUNK = 1 << 16

NGINX = """
daemon off; pid {directory}/nginx.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  upstream server {{ server 127.0.0.1:{upstream}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://server; proxy_http_version 1.1;
      proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""

Proxy = Callable[[Path, int], AbstractContextManager[int]]
"""Runs one in front of a port while its block runs; a directory for its files, and its port."""


async def serve(upstream: int) -> None:
    """Until killed."""
    served: set[str] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_read, to_write = await asyncio.open_connection("127.0.0.1", upstream)
        back = asyncio.create_task(_answers(to_read, writer))
        try:
            while request := await _request(reader, served):
                to_write.write(request)
                await to_write.drain()
        finally:
            to_write.close()
            await back

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _request(reader: asyncio.StreamReader, served: set[str]) -> bytes:
    """The next one, whole; empty at the end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = await reader.readexactly(length)
    if body:
        served.add(json.loads(body)["model"])
    return head + body


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@contextmanager
def of_asyncio(_directory: Path, upstream: int) -> Iterator[int]:
    """This one."""
    command = [sys.executable, "-m", "tools.bench.reverse_proxy", str(upstream)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def of_nginx(directory: Path, upstream: int) -> Iterator[int]:
    """nginx, with kept connections to the server and without buffers."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(NGINX.format(directory=directory, upstream=upstream, port=port))
    program = shutil.which("nginx") or "nginx"
    process = spawn([program, "-p", str(directory), "-c", str(config)], directory / "nginx.log")
    try:
        await_health(process, port, POLL)
        yield port
    finally:
        end(process)


def proxies() -> dict[str, Proxy]:
    """Those that are here, by name."""
    found: dict[str, Proxy] = {"an asyncio reverse proxy": of_asyncio}
    if shutil.which("nginx"):
        found["nginx as a reverse proxy"] = of_nginx
    return found


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
