"""Records docs/pictures/terminal.svg: commands at a terminal, a real service, a real model.

The terminal is tmux's, so that what a command writes over is gone, as for a person.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from pool_service_client import PoolClient
from tools.demo.service import running
from tools.demo.smollm2 import prepare_smollm2

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs/pictures/terminal.svg"
MODELS: Final = ROOT / ".cache/models"
COLUMNS: Final = 100
LINES: Final = 60
TIMEOUT_S: Final = 300
POLL_S: Final = 0.1
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


def main() -> int:
    """Record the picture; return the exit code."""
    if shutil.which("tmux") is None:
        print("pictures: tmux is not there, whose terminal is recorded", file=sys.stderr)
        return 1
    model = prepare_smollm2(MODELS, lambda text: print(f"pictures: {text}"))
    with tempfile.TemporaryDirectory(prefix="pool-pictures-") as directory:
        # No grace period: a server can be evicted as soon as the command before has ended.
        state = Path(directory) / "state"
        with running(state, environment=_environment(model, "")) as service:
            _wait_for_standby(service.address)
            screen = _recorded(Path(directory), _environment(model, service.address))
    PICTURE.write_text(picture(screen))
    print(f"pictures: wrote {PICTURE.relative_to(ROOT)}")
    return 0


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
        "MODEL": str(model.absolute()),
        "LANG": "C.UTF-8",
    }


def _recorded(directory: Path, environment: Mapping[str, str]) -> str:
    """Return what stands on the terminal after all commands, with its escape sequences."""
    socket = str(directory / "tmux")
    tmux = ("tmux", "-f", os.devnull, "-S", socket)
    script = directory / "typed.sh"
    typed = (
        f"printf '\\033[32m$\\033[0m %s\\n' {shlex.quote(line)}\n{line}\nsleep {PAUSE_S}"
        for line in COMMANDS
    )
    end = f"{shlex.join(tmux)} wait-for -S done\nexec sleep {TIMEOUT_S}"
    script.write_text("\n".join(("clear", *typed, end)))
    size = ("-x", str(COLUMNS), "-y", str(LINES))
    try:
        _run(environment, *tmux, "new-session", "-d", *size, f"sh {shlex.quote(str(script))}")
        _run(environment, *tmux, "wait-for", "done")
        return _run(environment, *tmux, "capture-pane", "-e", "-p")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, stderr=subprocess.DEVNULL)


def _run(environment: Mapping[str, str], *command: str) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT_S
    )
    return done.stdout


def picture(screen: str) -> str:
    """Return an SVG of a terminal's screen that needs nothing from the network."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(Text.from_ansi(screen.rstrip()))
    svg = console.export_svg(title="pool-service", theme=MONOKAI, unique_id="terminal")
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code,", "ui-monospace, Menlo, DejaVu Sans Mono,")
    return re.sub(r" +$", "", svg, flags=re.MULTILINE).replace("https://www.textualize.io", "")


if __name__ == "__main__":
    sys.exit(main())
