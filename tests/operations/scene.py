"""The service that the page of operations speaks of: real, with a stand-in for the runtime."""

import os
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.fake_hub import fake_hub
from tests.operations.page import Command, run
from tools.demo.service import running

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".cache/tools/bin"
FAKE = ROOT / "tests/fake_server.py"
SERVE = re.compile(r"^pool-service serve .*$", re.MULTILINE)
FILES = {
    "config.json": b"{}",
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(2_000_000),
}

# By its name it is vllm-mlx, so that what is not on disk is known, and can be pulled; its Python
# is the one of the tests, which has the real one's version.
PROGRAM = """#!{python}
import runpy, sys
sys.argv[0] = {fake!r}
runpy.run_path({fake!r}, run_name="__main__")
"""
RUNTIME = """
[runtime]
command = [{program!r}, "serve", "{{runtime_model}}", "--port", "{{port}}",
           "--served-model-name", "{{model}}"]

[service]
standby = 0
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """A service, and where it listens instead of the address that the page names."""

    directory: Path
    shown: str
    address: str
    environment: dict[str, str]

    def run(self, command: Command) -> str:
        """What a command of the page prints, as if the service had the page's address."""
        line = command.line.replace(self.shown, self.address)
        printed = run(command, line, self.directory, self.environment)
        return printed.replace(self.address, self.shown)


@contextmanager
def scene(document: str, directory: Path) -> Iterator[Scene]:
    """Serves as the page says; its present directory becomes `directory`."""
    (config,) = re.findall(r"^```toml\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    program = directory / "vllm-mlx"
    program.write_text(PROGRAM.format(python=sys.executable, fake=str(FAKE)))
    program.chmod(0o755)
    (directory / "pool.toml").write_text(RUNTIME.format(program=str(program)) + config)
    listen, arguments = _serve_line(document)
    shown = listen[0]
    with fake_hub(FILES, "mlx-community/Qwen3-4B-4bit") as hub:
        environment = os.environ | hub.environment(directory / "hub")
        environment["PATH"] = os.pathsep.join(
            (str(TOOLS), str(Path(sys.executable).parent), environment["PATH"])
        )
        addresses = (shown.rpartition(":")[0] + ":0", *listen[1:])
        with running(directory / "state", addresses, arguments, environment) as service:
            environment["POOL_SERVICE_ADDRESS"] = service.address
            environment["POOL_SERVICE_STATE_DIR"] = str(directory / "state")
            yield Scene(directory, shown, service.address, environment)


def _serve_line(document: str) -> tuple[list[str], list[str]]:
    """Where the page lets the service listen, and its other arguments."""
    (line,) = SERVE.findall(document)
    words = shlex.split(line)[2:]
    listen = [word for before, word in pairwise(words) if before == "--listen"]
    others = [word for word in words if word != "--listen" and word not in listen]
    return listen, others
