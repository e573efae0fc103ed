"""The program as it is started: by its own interpreter, in pipes and on a terminal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.program import MAIN, Terminal, running, started
from tests.client.scripted import Script, Stay, changed, ready, synced


def test_help_imports_none_of_what_the_commands_need() -> None:
    code = (
        "import sys\n"
        "from pool_service.cli import main\n"
        "sys.argv = ['pool-service', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio', 'grpc', 'psutil', 'pydantic', 'rich', 'google.protobuf'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Exit codes:" in done.stdout
    assert done.stderr == "[]\n"


def test_fork_support_is_off_before_grpc_is_there() -> None:
    code = (
        "import os, sys\n"
        "from pool_service.cli import main\n"
        "sys.argv = ['pool-service', '--version']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(os.environ['GRPC_ENABLE_FORK_SUPPORT'], 'grpc' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "false False"


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        ("serve", set[str]()),
        ("fleet serve", {"pool_service.adapters.runtime", "pool_service.core.server"}),
    ],
)
def test_what_serves_imports_nothing_that_it_does_not_use(
    words: str, unused: set[str], tmp_path: Path
) -> None:
    file = tmp_path / "front.toml"
    file.write_text('[members]\none = "127.0.0.1:50051"\n')
    # Nobody can listen at these addresses, which both find out once they have been imported.
    options = ["--listen", "nowhere"]
    if words == "fleet serve":
        options = ["--listen", "unix:/dev/null/socket", "--config", str(file)]
    code = (
        "import sys\n"
        "from pool_service.cli import main\n"
        f"sys.argv = ['pool-service', *{[*words.split(), *options]}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "unused = {'attr', 'greenlet', 'html', 'pool_service_client', 'pygments', 'rich'}\n"
        f"print(sorted((unused | {unused}) & set(sys.modules)), 'grpc' in sys.modules)\n"
        "import rich\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] True\n", done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_to_each_shell(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        env={**os.environ, "_POOL_SERVICE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pool-service" in done.stdout


def test_ensure_on_a_terminal_shows_what_it_waits_for(service: Script, terminal: Terminal) -> None:
    service.answer("Ensure", Stay())
    service.answer(
        "Watch",
        changed(1, "other"),
        changed(1, "m", state=pb.SERVER_STATE_STARTING, detail="loads [1/2]"),
        synced(1),
        Stay(),
    )
    with running(started(service, "ensure", "m", stderr=terminal.writer)) as process:
        terminal.wait_for("m: starting: loads [1/2]")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
    assert "Traceback" not in terminal.seen
    assert "other" not in terminal.seen


def test_ensure_on_a_terminal_still_prints_the_endpoint_alone(
    service: Script, terminal: Terminal
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready(), started=True, api_key="psk_x"))
    service.answer("Watch", synced(1), Stay())
    with running(started(service, "ensure", "m", stderr=terminal.writer)) as process:
        output, _ = process.communicate(timeout=20)
        assert (process.returncode, output) == (0, "http://127.0.0.1:49321\n")
    terminal.wait_for("(ensure --env)")
    assert "psk_x" not in terminal.seen


def test_sigterm_shows_the_cursor_of_the_terminal_again(
    service: Script, terminal: Terminal
) -> None:
    service.answer("Ensure", Stay())
    service.answer("Watch", synced(1), Stay())
    with running(started(service, "ensure", "m", stderr=terminal.writer)) as process:
        terminal.wait_for("m: waiting for the service")
        process.send_signal(signal.SIGTERM)
        terminal.wait_for("\x1b[?25h")
        assert process.wait(20) == -signal.SIGTERM


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_the_caller_closed_is_as_dev_null(service: Script, closed: str) -> None:
    service.answer("List", pb.ListResponse())
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    environment = {**os.environ, "POOL_SERVICE_ADDRESS": service.address}
    for command, shown in (("list", "0 servers\n"), ("ensure m", "http://127.0.0.1:49321\n")):
        script = f'"$0" -c "$1" {command} {closed}'
        done = subprocess.run(
            ["sh", "-c", script, sys.executable, MAIN],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        out = "" if " >" in f" {closed}" else shown
        assert (done.returncode, done.stdout, done.stderr) == (0, out, "")


def test_list_on_a_narrow_terminal_keeps_the_endpoint_whole(
    service: Script, terminal: Terminal
) -> None:
    model = "organisation/a-model-with-quite-a-long-name"
    service.answer("List", pb.ListResponse(servers=[ready(model)], totals=pb.PoolTotals(servers=1)))
    with running(started(service, "list", stdout=terminal.writer)) as process:
        terminal.wait_for("1 server")
        assert process.wait(20) == 0
    assert "http://127.0.0.1:49321" in terminal.seen


def test_interrupting_a_watch_is_quiet(service: Script) -> None:
    service.answer("List", pb.ListResponse())
    service.answer("Watch", synced(1), Stay())
    with running(started(service, "watch", "--json")) as process:
        assert process.stdout is not None
        assert "synced" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
        assert (process.returncode, output, errors) == (130, "", "")


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_reader_that_has_gone_ends_a_command_quietly(service: Script, form: list[str]) -> None:
    service.answer("List", pb.ListResponse(servers=[ready(str(n)) for n in range(100)]))
    reader, writer = os.pipe()
    os.close(reader)
    with running(started(service, "list", *form, stdout=writer)) as process:
        os.close(writer)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, errors) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="macOS has no device that is full")
@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["list", "--help"], ["list"]], ids=" ".join
)
def test_output_that_cannot_be_written_is_reported_in_one_line(
    service: Script, arguments: list[str]
) -> None:
    service.answer("List", pb.ListResponse(servers=[ready(str(n)) for n in range(100)]))
    with (
        Path("/dev/full").open("w") as full,
        running(started(service, *arguments, stdout=full.fileno())) as process,
    ):
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "No space left on device" in errors
    assert "Errno" not in errors


INTERRUPTED = """
import sys

class Interrupted:
    def find_spec(self, name, path=None, target=None):
        if name == "pool_service.cli.commands":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupted())
from pool_service.cli import main
main()
"""


def test_an_interrupt_while_the_command_line_imports_is_quiet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
