"""Records pictures of a terminal, with a real service and a real model.

python -m tools.pictures [terminal] [top]

`terminal` is docs/pictures/terminal.svg, commands and their output; `top` is
docs/pictures/top.svg, the live view. The terminal is tmux's, so that what a command writes over is
gone, as for a person.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from pool_service_client import PoolClient
from tools.demo.service import command, running
from tools.demo.smollm2 import prepare_smollm2
from tools.recorded_terminal import POLL_S, TIMEOUT_S, picture, recorded, signal_command

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURES: Final = ROOT / "docs/pictures"
MODELS: Final = ROOT / ".cache/models"
TERMINAL_LINES: Final = 60
TOP_LINES: Final = 22
PAUSE_S: Final = 4
"""After each command: about what a person takes to type the next one."""
COMMANDS: Final = (
    "pool-service ensure smollm2 --runtime-model $MODEL",
    "echo 'Hello, who are you?' | pool-service run smollm2",
    "pool-service ensure smollm2-too --runtime-model $MODEL",
    "pool-service list",
    "pool-service hold smollm2 -- pool-service evict smollm2",
    "pool-service evict --all",
)
"""What is typed, with MODEL in the environment."""

BUDGET: Final = '[memory]\nbudget = "4GB"\n'
READY: Final = ("chat", "code")
LOADS, WAITS, BREAKS, UNUSED = "translate", "summaries", "broken", "notes"
NEEDS: Final = {"chat": 0.9, "code": 0.8, LOADS: 1.0, WAITS: 2.5, BREAKS: 0.7, UNUSED: 0.7}
"""The models of the live view with the memory that each is declared to need, in GB."""


def main(names: Sequence[str]) -> int:
    """Record the pictures of these names, or all; return the exit code."""
    recorders = {"terminal": _terminal, "top": _top}
    if shutil.which("tmux") is None:
        print("pictures: tmux is not there, whose terminal is recorded", file=sys.stderr)
        return 1
    if unknown := set(names) - set(recorders):
        print(f"pictures: there is no {', '.join(unknown)}", file=sys.stderr)
        return 2
    model = prepare_smollm2(MODELS, lambda text: print(f"pictures: {text}")).absolute()
    for name in names or recorders:
        _record(name, recorders[name], model)
    return 0


def _record(name: str, recorder: Callable[[Path, Path], str], model: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="pool-pictures-") as directory:
        screen = recorder(Path(directory), model)
    path = PICTURES / f"{name}.svg"
    path.write_text(picture(screen))
    print(f"pictures: wrote {path.relative_to(ROOT)}")


def _terminal(directory: Path, model: Path) -> str:
    """Return what stands on the terminal after all commands, with its escape sequences."""
    # No grace period: a server can be evicted as soon as the command before has ended.
    with running(directory / "state", environment=_environment(model, "")) as service:
        _wait_for_standby(service.address)
        typed = (
            f"printf '\\033[32m$\\033[0m %s\\n' {shlex.quote(line)}\n{line}\nsleep {PAUSE_S}"
            for line in COMMANDS
        )
        script = directory / "typed.sh"
        end = f"{signal_command(directory)}\nexec sleep {TIMEOUT_S}"
        script.write_text("\n".join(("clear", *typed, end)))
        environment = _environment(model, service.address)
        line = f"sh {shlex.quote(str(script))}"
        with recorded(directory, line, environment, TERMINAL_LINES) as terminal:
            terminal.wait_for_signal()
            return terminal.screen()


def _wait_for_standby(address: str) -> None:
    with PoolClient.connect(address) as pool:
        while next(iter(pool.pages())).totals.standbys == 0:
            time.sleep(POLL_S)


def _environment(model: Path, address: str) -> dict[str, str]:
    """Return what the commands and the service get."""
    return {
        **os.environ,
        "POOL_SERVICE_DEFAULTS_GRACE_PERIOD": "0",
        "POOL_SERVICE_ADDRESS": address,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODEL": str(model),
        "LANG": "C.UTF-8",
    }


def _top(directory: Path, model: Path) -> str:
    """Return the live view of a pool with models in several states."""
    config = directory / "config.toml"
    config.write_text(BUDGET + "".join(_sections(model, _broken(directory, model))))
    arguments = ["--config", str(config)]
    environment = _environment(model, "")
    with ExitStack() as stack:
        service = stack.enter_context(
            running(directory / "state", arguments=arguments, environment=environment)
        )
        environment = _environment(model, service.address)
        pool = stack.enter_context(PoolClient.connect(service.address))
        _call(environment, "ensure", BREAKS)
        for name in READY:
            pool.ensure(name)
        hold = stack.enter_context(pool.hold("chat", holder="nightly"))
        hold.ready()
        terminal = stack.enter_context(
            recorded(directory, "pool-service top", environment, TOP_LINES)
        )
        terminal.wait_until(lambda screen: "FAILED" in screen)
        terminal.type("j")
        for name in (LOADS, WAITS):
            stack.enter_context(_calling(environment, "ensure", name))
        return terminal.wait_until(_is_telling)


def _is_telling(screen: str) -> bool:
    """Return whether a start is well under way, another waits, and a holder is shown."""
    is_loading = re.search(r"STARTING [2-7]\d%", screen) is not None
    return is_loading and "QUEUED" in screen and "held by" in screen


def _broken(directory: Path, model: Path) -> Path:
    """Return a copy of a model that the runtime refuses to load."""
    broken = directory / "broken"
    shutil.copytree(model, broken)
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps({**config, "model_type": "unknown"}))
    return broken


def _sections(model: Path, broken: Path) -> Iterator[str]:
    for name, needs in NEEDS.items():
        path = broken if name == BREAKS else model
        yield f'[models.{name}]\nexpected_memory = "{needs}GB"\nruntime_model = "{path}"\n'
        if name == BREAKS:
            yield 'stall_timeout = "10s"\n'


def _call(environment: Mapping[str, str], *words: str) -> None:
    subprocess.run(command(*words), env=dict(environment), check=False, capture_output=True)


@contextmanager
def _calling(environment: Mapping[str, str], *words: str) -> Iterator[None]:
    """Run a command of `pool-service` while the block runs."""
    with subprocess.Popen(
        command(*words),
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
