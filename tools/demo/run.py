"""The demo: what is special about the service, in a minute of watching.

Each step runs the commands that a person would type, against a real service with a real model.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from rich.markup import escape

from pool_service_client import ADDRESS_VARIABLE, PoolClient, Server
from tools.demo.chat import ask, stream
from tools.demo.service import RunningService, ServiceFailedError, command, running
from tools.demo.smollm2 import PrepareError, prepare_smollm2
from tools.demo.stage import Stage

CACHE: Final = Path(".cache")
STATE: Final = CACHE.absolute() / "demo"
STEPS: Final = 6
MODEL: Final = "smollm2"
OTHER: Final = "smollm2-too"
QUESTION: Final = "What is the capital of France?"
LONG_QUESTION: Final = "Tell me three facts about lighthouses."
LONG_ANSWER_TOKENS: Final = 200
TOKENS_BEFORE_THE_KILL: Final = 30
STANDBY_TIMEOUT_S: Final = 60.0
POLL_S: Final = 0.05


class DemoError(Exception):
    """Something that the demo shows did not happen; the message says what to do."""


def main() -> int:
    """Run the demo; return the exit code.

    Under make an interrupt ends with 0: make was interrupted too, and ends as such, and would
    add a line of its own for any other code.
    """
    stage = Stage(STEPS)
    try:
        _play(stage)
    except KeyboardInterrupt:
        stage.say("\n[yellow]Interrupted.[/] Nothing is left running; `make demo` begins anew.")
        return 0 if "MAKELEVEL" in os.environ else 128 + signal.SIGINT
    except (DemoError, PrepareError, ServiceFailedError, OSError) as error:
        stage.say(f"[red]The demo ends here:[/] {escape(str(error))}")
        return 1
    return 0


def _play(stage: Stage) -> None:
    stage.step("A small real model: SmolLM2-135M-Instruct")
    directory = _prepare(stage)
    with ExitStack() as cleanup:
        stage.step("The service starts, and a process waits that has imported all it needs")
        service = cleanup.enter_context(_serving(stage))
        _wait_for_standby(stage, service)

        stage.step("Ensure: a model by name, ready from that process")
        server = _ensure(stage, service, MODEL, directory)
        _show_question(stage, QUESTION)
        answer = ask(server, QUESTION)
        stage.say(f"[bold]Model:[/] {escape(answer)}")

        stage.step("A second model beside it, and a hold: what is held is not evicted")
        _ensure(stage, service, OTHER, directory)
        _type(stage, service, "list")
        _hold(stage, service)

        stage.step("kill -9 the service in the middle of an answer: the answer goes on")
        before = _servers(service)
        with _leaving_no_server():
            _answer_over_a_kill(stage, service, server)

            stage.step("The next service finds every server again")
            service = cleanup.enter_context(_serving(stage))
        _type(stage, service, "list")
        _check_adopted(stage, before, _servers(service))
        _type(stage, service, "evict", "--all")
        with stage.going_on("stopping the service"):
            cleanup.close()
    _say_what_to_type_next(stage, directory)


def _prepare(stage: Stage) -> Path:
    """Return the directory of the model, downloaded and converted where it is not there yet."""
    with stage.one_after_the_other() as going_on:
        directory = prepare_smollm2(CACHE / "models", going_on)
    stage.done(f"it is in [cyan]{directory.relative_to(Path.cwd())}[/]")
    return directory


@contextmanager
def _serving(stage: Stage) -> Iterator[RunningService]:
    """Run a service within the block, of which an interrupt of the terminal hears nothing."""
    stage.typed("pool-service serve")
    with running(STATE, process_group=0) as service:
        stage.done(f"serving on {service.address}, process {service.process.pid}")
        yield service


@contextmanager
def _leaving_no_server() -> Iterator[None]:
    """Stop the servers of a service that was killed if the block does not come to the next one."""
    try:
        yield
    except BaseException:
        # A service that starts adopts them, or takes over from one that runs; its end stops them.
        with running(STATE, arguments=["--replace"], process_group=0):
            pass
        raise


def _wait_for_standby(stage: Stage, service: RunningService) -> None:
    deadline = time.monotonic() + STANDBY_TIMEOUT_S
    with (
        stage.going_on("a standby imports MLX and vllm-mlx"),
        PoolClient.connect(service.address) as pool,
    ):
        while next(iter(pool.pages())).totals.standbys == 0:
            if time.monotonic() > deadline:
                raise DemoError(f"there is no standby; the service's log is {service.log}")
            time.sleep(POLL_S)


def _ensure(stage: Stage, service: RunningService, model: str, directory: Path) -> Server:
    """Make the model ready by the command, and return its server."""
    path = directory.relative_to(Path.cwd())
    began = time.monotonic()
    _type(stage, service, "ensure", model, "--runtime-model", str(path.absolute()))
    stage.done(f"ready after [bold]{time.monotonic() - began:.2f} s[/], command and all")
    with PoolClient.connect(service.address) as pool:
        return pool.ensure(model).server


def _hold(stage: Stage, service: RunningService) -> None:
    """Evict a model that is held while the eviction is tried: it is refused."""
    evict = ("pool-service", "evict", MODEL)
    if _type(stage, service, "hold", MODEL, "--", *evict, expected=None) == 0:
        raise DemoError(f"{MODEL} was evicted although it was held")
    stage.done("refused, since it is held")


def _answer_over_a_kill(stage: Stage, service: RunningService, server: Server) -> None:
    """Kill the service once the server has begun to answer, and show the answer to its end."""
    _show_question(stage, LONG_QUESTION)
    pieces = stream(server, LONG_QUESTION, LONG_ANSWER_TOKENS)
    words = stage.words("[bold]Model:[/] ")
    for count, piece in enumerate(pieces):
        if count == TOKENS_BEFORE_THE_KILL:
            service.process.kill()
            service.process.wait()
            words.aside(f"[bold red]kill -9 {service.process.pid}[/] [dim](the service)[/]")
        words.add(piece)
    words.end()
    stage.done("the answer is whole, and no service runs")


def _check_adopted(stage: Stage, before: list[Server], after: list[Server]) -> None:
    def facts(servers: list[Server]) -> list[tuple[str, int, str]]:
        return [(server.model, server.pid, server.endpoint) for server in servers]

    if facts(before) != facts(after):
        raise DemoError(f"not every server was found again: {facts(before)}, {facts(after)}")
    stage.done(f"adopted {len(after)} of {len(before)}: the same processes and endpoints")


def _type(stage: Stage, service: RunningService, *words: str, expected: int | None = 0) -> int:
    """Show and run one `pool-service` command, and return its exit code.

    Raises DemoError if that is not `expected`, unless `expected` is None.
    """
    stage.typed(f"pool-service {shlex.join(words)}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        ADDRESS_VARIABLE: service.address,
    }
    # In a group of its own, an interrupt reaches only the demo, which ends it.
    with subprocess.Popen(command(*words), env=environment, process_group=0) as process:
        try:
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if expected is not None and code != expected:
        raise DemoError(f"the command above exited with {code}; see {service.log}")
    return code


def _servers(service: RunningService) -> list[Server]:
    with PoolClient.connect(service.address) as pool:
        return list(pool.list())


def _show_question(stage: Stage, question: str) -> None:
    stage.say(f"[bold]You:[/]   {escape(question)}")


def _say_what_to_type_next(stage: Stage, directory: Path) -> None:
    path = directory.relative_to(Path.cwd())
    stage.console.print(f"\n[bold]That was it, in {stage.elapsed_s():.0f} s.[/] To go on:")
    stage.say(
        "In this terminal, the service:\n"
        "  [green]make serve[/]\n"
        "In another one, in this directory:\n"
        "  [green]export PATH=$PWD/.venv/bin:$PATH[/]\n"
        f"  [green]pool-service ensure {MODEL} --runtime-model $PWD/{path}[/]\n"
        "  [green]pool-service list[/]\n"
        'Then README.md, from "What you do with it" on.'
    )


if __name__ == "__main__":
    sys.exit(main())
