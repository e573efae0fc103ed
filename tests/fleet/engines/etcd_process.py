"""An etcd, of one member unless others are named, as a process with a directory of its own."""

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.error import URLError
from urllib.request import Request, urlopen

from tests.certificates import LOCAL, Authority, ip
from tools.bench.turns import free_ports

LIMIT_S = 60.0
"""How long etcd may take to start, on a machine that is busy."""

ENVIRONMENT = {**os.environ, "ETCD_UNSUPPORTED_ARCH": "arm64"}
"""etcd 3.4 runs on arm64 only when it is told to."""


def on_this_machine(command: Sequence[str], log: BinaryIO) -> "subprocess.Popen[Any]":
    """Start an etcd as any program."""
    return subprocess.Popen(command, stdout=log, stderr=log, env=ENVIRONMENT)


@dataclass
class EtcdProcess:
    """Starts etcd in `directory`, where its data stays.

    authority: it has TLS, and clients need a certificate of this authority. address: of the
    machine that `launch` starts it on. name: of this member of etcd. cluster: the addresses of all
    by their names; None: there is this one alone.
    """

    directory: Path
    authority: Authority | None = None
    port: int = field(default_factory=lambda: free_ports(2))
    process: "subprocess.Popen[Any] | None" = None
    address: str = "127.0.0.1"
    launch: Callable[[Sequence[str], BinaryIO], "subprocess.Popen[Any]"] = on_this_machine
    name: str = "one"
    cluster: Mapping[str, str] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.address}:{self.port}"

    @property
    def scheme(self) -> str:
        return "https" if self.authority else "http"

    def start(self) -> None:
        """Start, and return once it answers."""
        self.begin()
        self.wait()

    def begin(self) -> None:
        """Start; of several members none answers before most have begun."""
        members = self.cluster or {self.name: "127.0.0.1"}
        urls = {name: f"http://{host}:{self.port + 1}" for name, host in members.items()}
        peers = urls[self.name]
        command = [
            "etcd",
            f"--name={self.name}",
            f"--data-dir={self.directory / 'data'}",
            f"--listen-client-urls={self.scheme}://{self.endpoint}",
            f"--advertise-client-urls={self.scheme}://{self.endpoint}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster={','.join(f'{name}={url}' for name, url in urls.items())}",
            "--log-level=error",
            *self._tls_options(),
        ]
        with (self.directory / "log").open("ab") as log:
            self.process = self.launch(command, log)

    def wait(self) -> None:
        """Return once it answers."""
        assert self.process is not None
        limit = time.monotonic() + LIMIT_S
        while not self._healthy():
            assert self.process.poll() is None, (self.directory / "log").read_text()
            assert time.monotonic() < limit, (self.directory / "log").read_text()
            time.sleep(0.02)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Delete all that it has stored."""
        shutil.rmtree(self.directory / "data")

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def ask(self, path: str, **request: object) -> Any:  # noqa: ANN401  # any JSON
        """Return etcd's answer over its gateway for JSON."""
        with urlopen(
            Request(f"{self.scheme}://{self.endpoint}/v3/{path}", json.dumps(request).encode()),
            timeout=LIMIT_S,
            context=self._context(),
        ) as response:
            return json.load(response)

    def delete(self, key: str) -> None:
        self.ask("kv/deleterange", key=coded(key))

    def _tls_options(self) -> list[str]:
        if self.authority is None:
            return []
        (self.directory / "ca.pem").write_bytes(self.authority.certificate)
        names = (*LOCAL, ip(self.address))
        chain, key = self.authority.issue(*dict.fromkeys(names)).write(self.directory, "etcd")
        return [
            f"--cert-file={chain}",
            f"--key-file={key}",
            f"--trusted-ca-file={self.directory / 'ca.pem'}",
            "--client-cert-auth",
        ]

    def _context(self) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        context = ssl.create_default_context(cafile=str(self.directory / "ca.pem"))
        context.load_cert_chain(
            *self.authority.issue(common_name="root").write(self.directory, "root")
        )
        return context

    def _healthy(self) -> bool:
        try:
            with urlopen(
                f"{self.scheme}://{self.endpoint}/health", timeout=5, context=self._context()
            ) as response:
                return bool(json.load(response)["health"] == "true")
        except (URLError, OSError):
            return False


def coded(text: str) -> str:
    """Return a key or a value as the gateway for JSON has it."""
    return base64.b64encode(text.encode()).decode()


@contextmanager
def etcd(directory: Path, authority: Authority | None = None) -> Iterator[EtcdProcess]:
    directory.mkdir(exist_ok=True)
    process = EtcdProcess(directory, authority)
    try:
        process.start()
        yield process
    finally:
        process.kill()
