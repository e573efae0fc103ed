"""The real vllm-mlx in its sandbox: it serves as without, and what a model brings does no harm."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pool_service.adapters.children.confinement import call_filter, landlock
from pool_service_client import PoolClient, Server
from tests.whole.patient import PATIENT
from tests.whole.runs import headers
from tools.demo.checkpoints import write_tiny_llama, write_tiny_vlm
from tools.demo.service import RunningService, running

pytestmark = [
    pytest.mark.whole,
    pytest.mark.skipif(
        bool(landlock.flaw() or call_filter.machine_flaw()),
        reason="needs Landlock, and Linux on x86_64 or aarch64",
    ),
]

HOSTILE = """
import json, os, pathlib, socket, threading
from mlx_lm.models.llama import Model, ModelArgs

scene = json.loads((pathlib.Path(__file__).parent / "scene.json").read_text())

def connects(family, address):
    with socket.socket(family) as mine:
        mine.connect(address)

def writes(path):
    pathlib.Path(path).write_text("x")

def listens():
    with socket.socket() as mine:
        mine.bind(("0.0.0.0", 0))

TRIES = {
    "read a key": lambda: pathlib.Path(scene["key"]).read_text(),
    "read the state": lambda: os.listdir(scene["state"]),
    "read another model": lambda: pathlib.Path(scene["other"], "config.json").read_text(),
    "write into the home": lambda: writes(scene["key"] + ".mine"),
    "change its own model": lambda: writes(scene["own"] + "/new.json"),
    "call the service": lambda: connects(socket.AF_INET, ("127.0.0.1", scene["port"])),
    "call the service by its socket": lambda: connects(socket.AF_UNIX, scene["socket"]),
    "signal the service": lambda: os.kill(scene["service"], 0),
    "read the variables of the service": lambda: open(f"/proc/{scene['service']}/environ").read(),
    "listen for other machines": listens,
}
done = []
for name, act in TRIES.items():
    try:
        act()
        done.append(name)
    except OSError:
        pass
print("HARM", json.dumps(done), flush=True)
"""

TRIES = [
    "read a key",
    "read the state",
    "read another model",
    "write into the home",
    "change its own model",
    "call the service",
    "call the service by its socket",
    "signal the service",
    "read the variables of the service",
    "listen for other machines",
]

Begin = Callable[[str], tuple[RunningService, PoolClient]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    write_tiny_llama(directory / "llama")
    write_tiny_llama(directory / "hostile")
    write_tiny_vlm(directory / "vlm")
    config = directory / "hostile" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"model_file": "hostile.py"}))
    (directory / "hostile" / "hostile.py").write_text(HOSTILE)
    return directory


@pytest.fixture
def begin(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    """Start a service with more in its configuration, and models that are listed."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "home" / ".ssh" / "id").write_text("a secret")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    listed = "".join(
        f"[models.{name}]\nruntime_model = '{models / name}'\n" for name in ("llama", "vlm")
    )
    listed += f"[models.hostile]\nruntime_model = '{models / 'hostile'}'\n"
    with ExitStack() as stack:

        def one(more: str) -> tuple[RunningService, PoolClient]:
            path = tmp_path / "config.toml"
            path.write_text(f"{more}\n{listed}trust_remote_code = true\n")
            service = stack.enter_context(
                running(
                    tmp_path / "state",
                    listen=("127.0.0.1:0", f"unix:{tmp_path}/s"),
                    arguments=["--config", str(path)],
                    wrapper=PATIENT,
                )
            )
            return service, stack.enter_context(PoolClient.connect(service.address))

        yield one


def ask(server: Server) -> str:
    body = {
        "model": server.served_model_name,
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 4,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{server.endpoint}/v1/chat/completions",
        json.dumps(body).encode(),
        headers(server),
    )
    with urllib.request.urlopen(request, timeout=100) as response:
        answer: str = json.load(response)["choices"][0]["message"]["content"]
    return answer


def filtered(server: Server) -> tuple[int, int]:
    """Return how many threads of a server have a filter of their calls, and how many it has."""
    tasks = Path(f"/proc/{server.pid}/task")
    status = [(task / "status").read_text() for task in tasks.iterdir()]
    return sum("\nSeccomp:\t2\n" in text for text in status), len(status)


def standing_by(pool: PoolClient, count: int) -> None:
    """Return when so many processes wait that have nothing left to do ahead."""
    while next(pool.pages()).totals.standbys < count:
        pass


@pytest.mark.parametrize("standbys", [0, 1])
def test_confined_servers_answer_as_others_do(begin: Begin, standbys: int) -> None:
    answers: dict[str, list[str]] = {}
    for sandbox in ("off", "on"):
        service, pool = begin(f'[service]\nstandby = {standbys}\n[runtime]\nsandbox = "{sandbox}"')
        answers[sandbox] = []
        for model in ("llama", "vlm"):
            standing_by(pool, standbys)
            server = pool.ensure(model).server
            answers[sandbox] += [ask(server), ask(server)]
            count, total = filtered(server)
            assert count == (total if sandbox == "on" else 0)
        service.stop()
    assert answers["on"] == answers["off"]


@pytest.mark.parametrize("standbys", [0, 1])
@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_what_a_model_brings_does_no_harm_in_the_sandbox_and_does_without(
    begin: Begin, models: Path, tmp_path: Path, sandbox: str, standbys: int
) -> None:
    service, pool = begin(f'[service]\nstandby = {standbys}\n[runtime]\nsandbox = "{sandbox}"')
    scene = {
        "key": str(tmp_path / "home" / ".ssh" / "id"),
        "state": str(tmp_path / "state"),
        "own": str(models / "hostile"),
        "other": str(models / "llama"),
        "port": int(service.address.rpartition(":")[2]),
        "socket": f"{tmp_path}/s",
        "service": service.process.pid,
    }
    (models / "hostile" / "scene.json").write_text(json.dumps(scene))
    standing_by(pool, standbys)
    server = pool.ensure("hostile").server
    assert ask(server)
    logs = (tmp_path / "state" / "logs").rglob("*.log")
    said = next(
        line for log in logs for line in log.read_text().splitlines() if line.startswith("HARM")
    )
    harm = json.loads(said.removeprefix("HARM"))
    assert harm == ([] if sandbox == "auto" else TRIES)
