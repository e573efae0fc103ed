"""Claims about programs that know nothing but a base URL: what each of them sees of the gateway.

Each program runs once for a mode of the gateway, and asks one question after the other.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import psutil
import pytest

from pool_service_client import PoolClient
from tests.gateway.conftest import gateway
from tests.gateway.programs.server import ENDLESS_TOKENS, HEARD
from tests.lasting_port import lasting_port
from tests.toolchain import needed
from tools.demo.service import running

pytestmark = pytest.mark.toolchains

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(__file__).parent / "programs"
REQUIREMENTS = ROOT / "packaging/requirements/sdks.txt"
LIMIT_S = 300.0

PYTHON = ("openai", "anthropic", "langchain", "litellm", "curl")
NODE = ("openai", "vercel")
WITH_AUDIO = {"python-openai", "python-litellm", "python-curl", "node-openai", "go-openai"}
SENDS_NO_FILE_TWICE = {"node-openai"}
"""Programs that send a file as a stream, which cannot be sent again where a redirect leads."""

FOLLOWS_NO_REDIRECT = {"go-openai"}
"""Programs that send no request to another origin than that of their base URL."""

IMAGE: Final = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAA"
    "BQABh6FO1AAAAABJRU5ErkJggg=="
)
"""One transparent pixel."""

CONFIG = f"""
[runtime]
command = [{sys.executable!r}, {str(PROGRAMS / "server.py")!r}, "{{port}}", {{directory!r}}]
served_model_name = "{{model}}"
server_keys = false
drains = true
[defaults]
grace_period = 0

"""


def ran(*command: str, directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"


# --- programs ------------------------------------------------------------------------------------


def python_programs(directory: Path) -> dict[str, Sequence[str]]:
    environment, python = directory / "environment", str(directory / "environment/bin/python")
    ran("sh", "tools/list_venv.sh", str(REQUIREMENTS), str(environment), directory=ROOT)
    return {f"python-{name}": [python, str(PROGRAMS / "program.py"), name] for name in PYTHON}


def node_programs(directory: Path) -> dict[str, Sequence[str]]:
    needed("node", "npm")
    project = directory / "node"
    shutil.copytree(PROGRAMS / "node", project, ignore=shutil.ignore_patterns("node_modules"))
    ran("npm", "ci", directory=project)
    return {f"node-{name}": ["node", str(project / "program.mjs"), name] for name in NODE}


def go_programs(directory: Path) -> dict[str, Sequence[str]]:
    needed("go")
    program = directory / "program"
    ran("go", "build", "-o", str(program), ".", directory=PROGRAMS / "go")
    return {"go-openai": [str(program)]}


NAMES = (*(f"python-{name}" for name in PYTHON), *(f"node-{name}" for name in NODE), "go-openai")
SETS = {"python": python_programs, "node": node_programs, "go": go_programs}

Commands = Callable[[str], Sequence[str]]
"""Returns the command of a program, by its name."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Install what a program needs when it is first wanted."""
    installed: dict[str, Sequence[str]] = {}

    def command(name: str) -> Sequence[str]:
        if name not in installed:
            kind = name.partition("-")[0]
            installed.update(SETS[kind](tmp_path_factory.mktemp(kind)))
        return installed[name]

    return command


class Program:
    """A program that runs."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        self.expect("ready")

    def begin(self, model: str, **question: object) -> None:
        """Ask something."""
        asked = {"model": model, "stream": True, "tokens": 5} | question
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(asked)}\n")
        self._process.stdin.flush()

    def expect(self, event: str) -> str:
        """Return the text of the next event, which is to be of this kind."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Libraries print, too.
            if line.startswith("{"):
                said = json.loads(line)
                assert said["event"] == event, said
                return str(said.get("text", ""))
        raise AssertionError(f"{self.name} has ended with {self._process.wait()}")

    def asks(self, model: str, **question: object) -> str:
        """Ask something, and return the answer."""
        self.begin(model, **question)
        if not question.get("audio"):
            self.expect("piece")
        return self.expect("end")

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


# --- the gateway ---------------------------------------------------------------------------------


class Stand:
    """A service, and a gateway that keeps its address."""

    def __init__(self, directory: Path, mode: str) -> None:
        self.directory = directory
        self.url = f"http://127.0.0.1:{lasting_port()}"
        self.mode = mode
        self._address = f"unix:{directory}/s"
        config = directory / "config.toml"
        config.write_text(CONFIG.format(port="{port}", model="{model}", directory=str(directory)))
        self._arguments = ["--config", str(config)]
        self._service, self._front = ExitStack(), ExitStack()
        self._start_service()
        self._start_gateway()
        self.pool = PoolClient.connect(self._address)

    def close(self) -> None:
        self.pool.close()
        self._front.close()
        self._service.close()

    def restart_service(self) -> None:
        """Kill the service, and start another one, which adopts its servers."""
        self._running.process.kill()
        self._running.process.wait()
        self._service.close()
        self._start_service()

    @contextmanager
    def without_gateway(self) -> Iterator[None]:
        """End the gateway, run the block meanwhile, and start it again."""
        self._gateway.process.terminate()
        yield
        assert self._gateway.process.wait(LIMIT_S) == 0
        self._front.close()
        self._start_gateway()

    def kill_server(self, model: str) -> None:
        """Kill the server of a model, and wait until the service has noticed it."""
        (killed,) = (one for one in self.pool.list() if one.model == model)
        psutil.Process(killed.pid).kill()
        with self.pool.watch() as events:
            while any(one.pid == killed.pid for one in self.pool.list()):
                next(events)

    def end(self, model: str) -> None:
        """Let the endless answers of a model end."""
        (self.directory / f"{model}.end").touch()

    def wait_until_left(self, model: str) -> None:
        """Wait until a caller of a model has gone away before the end of its answer."""
        end = time.monotonic() + LIMIT_S
        while not (self.directory / f"{model}.left").exists():
            assert time.monotonic() < end, "nobody has left"
            time.sleep(0.02)

    def _start_service(self) -> None:
        state = self.directory / "state"
        begun = running(state, (self._address,), self._arguments)
        self._running = self._service.enter_context(begun)

    def _start_gateway(self) -> None:
        listen = ("--mode", self.mode, "--listen", self.url.removeprefix("http://"))
        begun = gateway(self._address, self.directory / "gateway.log", *listen)
        self._gateway = self._front.enter_context(begun)


@pytest.fixture(scope="module", params=["proxy", "redirect"])
def stand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    with closing(Stand(tmp_path_factory.mktemp("stand"), request.param)) as one:
        yield one


@pytest.fixture(scope="module", params=NAMES)
def program(request: pytest.FixtureRequest, stand: Stand, commands: Commands) -> Iterator[Program]:
    if stand.mode == "redirect" and request.param in FOLLOWS_NO_REDIRECT:
        pytest.skip("the library follows no redirect to another origin")
    command = [*commands(request.param), stand.url]
    with closing(Program(request.param, command)) as one:
        yield one


@pytest.fixture
def model(request: pytest.FixtureRequest, stand: Stand, program: Program) -> Iterator[str]:
    """A model of the test's own, which does not run yet."""
    name = f"{program.name}-{request.function.__name__}"
    yield name
    stand.end(name)
    stand.pool.evict(name, force=True)


# --- what each program sees ----------------------------------------------------------------------


def test_a_cold_model_and_a_warm_one_answer(program: Program, model: str) -> None:
    assert program.asks(model).startswith("w0 w1 ")
    assert program.asks(model, stream=False).startswith("w0 w1 ")


def test_an_image_and_a_prompt_of_ten_megabytes_arrive(program: Program, model: str) -> None:
    assert program.asks(model, image=IMAGE).startswith("w0 ")
    assert program.asks(model, characters=10_000_000).startswith("w0 ")


def test_sound_comes_and_goes(stand: Stand, program: Program, model: str) -> None:
    if program.name not in WITH_AUDIO:
        pytest.skip("the library has no audio, or none for a base URL")
    if stand.mode == "redirect" and program.name in SENDS_NO_FILE_TWICE:
        pytest.skip("the library sends no file where a redirect leads")
    assert program.asks(model, audio=True) == HEARD


def test_a_server_stops_when_the_program_goes_away(
    stand: Stand, program: Program, model: str
) -> None:
    program.asks(model, tokens=ENDLESS_TOKENS, stop_after=2)
    stand.wait_until_left(model)


def test_a_server_that_is_killed_is_an_error_and_the_next_question_is_answered(
    stand: Stand, program: Program, model: str
) -> None:
    program.begin(model, tokens=ENDLESS_TOKENS)
    program.expect("piece")
    stand.kill_server(model)
    program.expect("error")
    assert program.asks(model).startswith("w0 ")


def test_an_answer_outlives_the_service(stand: Stand, program: Program, model: str) -> None:
    program.begin(model, tokens=ENDLESS_TOKENS)
    program.expect("piece")
    stand.restart_service()
    stand.end(model)
    assert program.expect("end").startswith("w0 ")
    assert program.asks(model).startswith("w0 ")


def test_a_gateway_that_is_started_again_ends_its_answers_first(
    stand: Stand, program: Program, model: str
) -> None:
    program.begin(model, tokens=ENDLESS_TOKENS)
    program.expect("piece")
    with stand.without_gateway():
        stand.end(model)
        assert program.expect("end").startswith("w0 ")
    assert program.asks(model).startswith("w0 ")


@pytest.mark.parametrize("name", sorted(FOLLOWS_NO_REDIRECT))
def test_a_library_that_follows_no_redirect_says_so(
    stand: Stand, commands: Commands, name: str
) -> None:
    """So that its users find the reason: they need the mode proxy."""
    if stand.mode == "proxy":
        pytest.skip("no redirects")
    with closing(Program(name, [*commands(name), stand.url])) as one:
        one.begin("any")
        assert "origin" in one.expect("error")
        stand.pool.evict("any", force=True)
