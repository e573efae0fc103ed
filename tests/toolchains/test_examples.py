"""The smallest programs in languages that have no client here: generated, built, and run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from google.rpc import status_pb2

from pool_service_client import PoolClient
from tests.toolchain import needed
from tools.demo.service import RunningService, running

pytestmark = pytest.mark.toolchains

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "clients/examples"
PROTO = ROOT / "proto"
FAKE = ROOT / "tests/fake_server.py"
GOOGLEAPIS = Path(status_pb2.__file__).parents[2]
CONFIG = f"""
[runtime]
command = ['{sys.executable}', '-S', '-E', '{FAKE}',
           'serve', '{{runtime_model}}', '--port', '{{port}}']

[runtimes.sick]
command = ['sh', '-c', 'exit 1', '{{port}}']

[models."broken"]
runtime = "sick"
"""

Build = Callable[[Path], Sequence[str]]
"""Builds a program in a directory of its own, and says how it is called."""


def succeed(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


def java(directory: Path) -> Sequence[str]:
    """By Maven, from a copy: it writes beside its pom."""
    needed("mvn", "java")
    project = directory / "clients/examples/java"
    shutil.copytree(
        EXAMPLES / "java", project, ignore=lambda _where, names: {"target"} & set(names)
    )
    (directory / "proto").symlink_to(PROTO)
    succeed("mvn", "--quiet", "--batch-mode", "--file", str(project), "package")
    return ["java", "-jar", str(project / "target/ensure.jar")]


def cpp(directory: Path) -> Sequence[str]:
    needed("cmake", "g++", "pkg-config", "protoc", "grpc_cpp_plugin")
    where = ["-S", str(EXAMPLES / "cpp"), "-B", str(directory)]
    succeed("cmake", *where, f"-DGOOGLEAPIS_DIR={GOOGLEAPIS}")
    succeed("cmake", "--build", str(directory))
    return [str(directory / "ensure")]


@pytest.fixture(scope="module", params=[java, cpp], ids=lambda build: build.__name__)
def program(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Sequence[str]:
    build: Build = request.param
    return build(tmp_path_factory.mktemp(build.__name__))


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    directory = tmp_path_factory.mktemp("service")
    config = directory / "pool.toml"
    config.write_text(CONFIG)
    listen = ("127.0.0.1:0", f"unix:{directory}/s")
    with running(directory / "state", listen, ["--config", str(config)]) as service:
        yield service


def ensured(program: Sequence[str], address: str, model: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "POOL_SERVICE_ADDRESS": address}
    return subprocess.run(
        [*program, model], env=environment, capture_output=True, text=True, check=False
    )


def last_line(text: str) -> str:
    """What the program says itself, after what the logs of its libraries do."""
    return text.splitlines()[-1]


@pytest.mark.parametrize("which", [0, 1], ids=["TCP", "unix"])
def test_it_prints_the_endpoint(
    program: Sequence[str], service: RunningService, which: int
) -> None:
    address = service.addresses[which]
    done = ensured(program, address, "m")
    with PoolClient.connect(address) as pool:
        (server,) = (each for each in pool.list() if each.model == "m")
    assert (done.returncode, done.stdout) == (0, f"{server.endpoint}\n"), done.stderr


@pytest.mark.parametrize(("model", "reason"), [("-", "INVALID_MODEL"), ("broken", "START_FAILED")])
def test_it_prints_the_reason_of_a_failure(
    program: Sequence[str], service: RunningService, model: str, reason: str
) -> None:
    done = ensured(program, service.address, model)
    assert (done.returncode, done.stdout) == (1, "")
    assert last_line(done.stderr).startswith(f"{reason}: ")


def test_it_prints_the_code_where_there_is_no_service(program: Sequence[str]) -> None:
    done = ensured(program, "unix:/nowhere/s", "m")
    assert (done.returncode, done.stdout) == (1, "")
    assert last_line(done.stderr).startswith("code 14: ")
