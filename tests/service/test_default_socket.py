"""Claims about a service that nobody told where to listen.

In a network of its own, where no other program has its port.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool_service_client import PoolClient
from tests.service.conftest import FAKE_RUNTIME
from tools.demo.service import command

ALONE = ["unshare", "--user", "--map-root-user", "--net"]
WITH_LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh", b"lo", 0x41))
os.execv(sys.argv[1], sys.argv[1:])
"""


def can_be_alone() -> bool:
    if sys.platform != "linux":
        return False
    try:
        return subprocess.run([*ALONE, "true"], check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(not can_be_alone(), reason="no network of its own can be made"),
]


@contextmanager
def default_service(root: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a service with its default addresses, until the block ends."""
    config = root / "pool.toml"
    config.write_text(f"[service]\nstandby = 0\n{FAKE_RUNTIME}")
    process = subprocess.Popen(
        [
            *(*ALONE, sys.executable, "-c", WITH_LOOPBACK),
            *command("serve", "--config", str(config)),
        ],
        env={
            **os.environ,
            "XDG_RUNTIME_DIR": str(root / "run"),
            "XDG_STATE_HOME": str(root / "state"),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines_of(process: "subprocess.Popen[str]", count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline().strip() for _ in range(count)]


def test_clients_of_its_user_find_it_by_its_socket(
    socket_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (socket_dir / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(socket_dir / "run"))
    path = socket_dir / "run/pool-service/socket"
    with default_service(socket_dir) as first:
        said = ["listening on 127.0.0.1:50051", f"listening on unix:{path}"]
        assert lines_of(first, 2) == said
        with PoolClient.connect() as pool:
            assert not pool.list()
        first.kill()
        first.wait()
    # The dead socket is replaced.
    with default_service(socket_dir) as second:
        assert lines_of(second, 2) == said
        with PoolClient.connect() as pool:
            assert not pool.list()
    assert not path.exists()
