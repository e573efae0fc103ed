"""The real API server, over an etcd of its own, if POOL_TESTS_KUBE_APISERVER names its program.

Go builds it in some 20 minutes from the module k8s.io/kubernetes (`go mod download -json` says
where it is), in a copy without go.work and vendor whose go.mod has, in the place of
`k8s.io/NAME => ./staging/…`, `k8s.io/NAME => k8s.io/NAME v0.34.2` for the version 1.34.2:
`GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0 go build -p 1 ./cmd/kube-apiserver`.
"""

import json
import os
import signal
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from pool_service.fleet.engines.kubernetes.access import Access
from tests.certificates import LOCAL, Authority
from tests.fleet.engines.etcd_process import EtcdProcess
from tools.bench.turns import free_ports

LIMIT_S = 300.0
"""How long it may take to start, on a machine that is busy."""

ADMIN, FRONT = "secret-of-admin", "secret-of-front"
"""Tokens: of an administrator, and of the service account of fronts."""

ACCOUNT = "system:serviceaccount:pool-service:front"
"""That service account, as the manifests name it."""


@dataclass
class KubeApiServer:
    """Starts the program; what it stores is in etcd."""

    program: str
    directory: Path
    etcd: EtcdProcess
    port: int = field(default_factory=lambda: free_ports(1))
    process: "subprocess.Popen[bytes] | None" = None

    def __post_init__(self) -> None:
        authority = Authority("of the cluster")
        (self.directory / "ca.pem").write_bytes(authority.certificate)
        authority.issue(*LOCAL).write(self.directory, "serving")
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.directory / "accounts.key").write_bytes(
            private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        (self.directory / "accounts.pub").write_bytes(
            private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        )
        (self.directory / "tokens.csv").write_text(
            f'{ADMIN},admin,admin,"system:masters"\n{FRONT},{ACCOUNT},front,\n'
        )
        (self.directory / "admin.token").write_text(ADMIN)
        (self.directory / "front.token").write_text(FRONT)

    @property
    def access(self) -> Access:
        return self.access_of("admin")

    def access_of(self, who: str) -> Access:
        return Access(
            server=f"https://127.0.0.1:{self.port}",
            ca=self.directory / "ca.pem",
            token=self.directory / f"{who}.token",
            call_limit_s=30.0,
        )

    async def kill(self) -> None:
        self.end()

    async def start(self) -> None:
        self.begin()

    def pause(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def begin(self) -> None:
        """Start, and return once it answers."""
        files = self.directory
        command = [
            self.program,
            f"--etcd-servers=http://{self.etcd.endpoint}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            f"--tls-cert-file={files / 'serving.pem'}",
            f"--tls-private-key-file={files / 'serving.key'}",
            "--service-account-issuer=https://cluster.example",
            f"--service-account-key-file={files / 'accounts.pub'}",
            f"--service-account-signing-key-file={files / 'accounts.key'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            f"--token-auth-file={files / 'tokens.csv'}",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]
        with (files / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        limit = time.monotonic() + LIMIT_S
        while not self._ready():
            assert self.process.poll() is None, (files / "log").read_text()[-4000:]
            assert time.monotonic() < limit, (files / "log").read_text()[-4000:]
            time.sleep(0.2)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        """Return the status and the text of its answer to the administrator."""
        request = Request(
            f"https://127.0.0.1:{self.port}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"},
            method=method,
        )
        context = ssl.create_default_context(cafile=self.directory / "ca.pem")
        try:
            with urlopen(request, timeout=60, context=context) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    def _ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz")[0] == 200
        except (URLError, OSError):
            return False
