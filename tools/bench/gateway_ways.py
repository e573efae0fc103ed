"""The ways to a server that are compared: direct, by a proxy, by the gateway."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from tools.bench import llama_swap, reverse_proxy
from tools.demo.service import command

DIRECT = "direct"
NGINX = "nginx"
LLAMA_SWAP = "llama-swap"
PROXY = "the gateway"
REDIRECT = "the gateway, mode redirect"

PATH = "/v1/chat/completions"
IDLE = ["sleep", "1000000"]
"""The command of a server that is another one's in truth."""


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the server. pids: of the processes on it, without the server's own."""

    name: str
    base_url: str
    pids: tuple[int, ...] = ()

    @property
    def url(self) -> str:
        """Where to ask for a stream."""
        return self.base_url + PATH

    def cpu(self) -> float:
        """Return the seconds that the processes on it have computed so far."""
        return sum(map(_computed, self.pids))


Begin = Callable[[AbstractContextManager[Way]], Way]


@contextmanager
def all_ways(directory: Path, service: str, model: str, server: str) -> Iterator[list[Way]]:
    """All ways that can be had here.

    service: the address of the service; model: the model's name; server: its base URL.
    """
    with ExitStack() as stack:
        begin: Begin = stack.enter_context
        ways = [Way(DIRECT, server)]
        if "nginx as a reverse proxy" in reverse_proxy.proxies():
            ways.append(begin(_nginx(directory, server)))
        if llama_swap.is_installed():
            ways.append(begin(_llama_swap(directory, model, server)))
        for name, mode in ((PROXY, "proxy"), (REDIRECT, "redirect")):
            ways.append(begin(gateway(name, mode, directory, service)))
        yield ways


@contextmanager
def _nginx(directory: Path, server: str) -> Iterator[Way]:
    with reverse_proxy.of_nginx(directory, urlsplit(server).port or 0) as port:
        master = psutil.Process(int((directory / "nginx.pid").read_text()))
        pids = [master.pid, *(worker.pid for worker in master.children())]
        yield Way(NGINX, f"http://127.0.0.1:{port}", tuple(pids))


@contextmanager
def _llama_swap(directory: Path, model: str, server: str) -> Iterator[Way]:
    home = directory / "llama-swap"
    with llama_swap.running(home, {model: IDLE}, server=server) as found:
        yield Way(LLAMA_SWAP, f"http://127.0.0.1:{found.port}", (found.process.pid,))


@contextmanager
def gateway(name: str, mode: str, directory: Path, service: str) -> Iterator[Way]:
    """Run the gateway in a mode, before the service at an address."""
    options = ("--address", service, "--listen", "127.0.0.1:0", "--mode", mode)
    log = directory / f"gateway-{mode}.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command("gateway", *options), stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    with process:
        try:
            assert process.stdout is not None
            _, begins, url = process.stdout.readline().partition("listening on ")
            if not begins:
                raise RuntimeError(f"the gateway did not start:\n{log.read_text()}")
            yield Way(name, url.strip(), (process.pid,))
        finally:
            process.terminate()
            process.wait(60)


def _computed(pid: int) -> float:
    """Return the seconds that the threads of a process have computed; on Linux to the ns."""
    if sys.platform != "linux":
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    tasks: Sequence[Path] = [*Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
