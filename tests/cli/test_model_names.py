"""A shell completes the names of models."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
import pytest

from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.program import MAIN, Terminal
from tests.client.scripted import Refusal, Script, Stay

NOBODY = "unix:/nonexistent/pool.sock"


def catalogue(script: Script) -> Script:
    models = [
        pb.Model(model="qwen3:4b", aliases=["quick"], on_disk=True),
        pb.Model(model="org/large"),
    ]
    stopping = pb.SERVER_STATE_STOPPING
    servers = [
        pb.Server(state=stopping, generation=11, role=pb.SERVER_ROLE_ORPHAN),
        pb.Server(model="qwen3:30b", state=pb.SERVER_STATE_READY, role=pb.SERVER_ROLE_CURRENT),
        pb.Server(model="qwen3:30b", state=stopping, role=pb.SERVER_ROLE_SUPERSEDED),
    ]
    script.answer("ListModels", pb.ListModelsResponse(models=models))
    script.answer("List", pb.ListResponse(servers=servers))
    return script


PATIENT = (
    f"from pool_service.cli import shell_completion; shell_completion.ANSWER_LIMIT_S = 60; {MAIN}"
)
"""The program, with all the time for a service's answer that a busy machine needs."""


def asked(shell: str, words: str, environment: Mapping[str, str], main: str = PATIENT) -> str:
    """Ask as the shell's own script does; `words` ends in the one to complete."""
    before, _, last = words.rpartition(" ")
    protocol = {
        "bash": {"COMP_LINE": f"pool-service {words}", "COMP_WORDBREAKS": " :="},
        "zsh": {
            "COMP_WORDS": f"pool-service {words}",
            "COMP_CWORD": str(len(before.split()) + 1),
        },
        "fish": {"COMP_WORDS": f"pool-service {words}", "COMP_CWORD": last},
    }[shell]
    done = subprocess.run(
        [sys.executable, "-c", main],
        env={
            **os.environ,
            **environment,
            **protocol,
            "_POOL_SERVICE_COMPLETE": f"{shell}_complete",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def at(script: Script) -> dict[str, str]:
    return {"POOL_SERVICE_ADDRESS": script.address}


@pytest.mark.process
@pytest.mark.parametrize(
    ("shell", "told"),
    [
        ("bash", "plain,qwen3:30b\nplain,qwen3:4b\n"),
        ("zsh", "plain\nqwen3\\:30b\nREADY\nplain\nqwen3\\:4b\non disk\n"),
        ("fish", "plain,qwen3:30b\tREADY\nplain,qwen3:4b\ton disk\n"),
    ],
)
def test_each_shell_gets_the_names_that_begin_so(service: Script, shell: str, told: str) -> None:
    assert asked(shell, "ensure qw", at(catalogue(service))) == told


@pytest.mark.process
def test_what_is_to_be_evicted_has_a_server(service: Script) -> None:
    assert asked("bash", "evict ", at(catalogue(service))) == "plain,qwen3:30b\n"


@pytest.mark.process
def test_the_address_of_the_line_is_asked(service: Script) -> None:
    words = f"--address {catalogue(service).address} ensure or"
    assert asked("bash", words, {"POOL_SERVICE_ADDRESS": NOBODY}) == "plain,org/large\n"
    words = f"ensure --address {service.address} or"
    assert asked("bash", words, {"POOL_SERVICE_ADDRESS": NOBODY}) == "plain,org/large\n"


@pytest.mark.process
def test_without_a_service_the_configuration_is_read(tmp_path: Path) -> None:
    config = tmp_path / "pool.toml"
    config.write_text("[models.'org/large']\naliases = ['big']\n")
    nobody = {"POOL_SERVICE_ADDRESS": NOBODY, "POOL_SERVICE_CONFIG": str(config)}
    assert asked("bash", "ensure ", nobody, MAIN) == "plain,big\nplain,org/large\n"
    assert asked("bash", "evict ", nobody, MAIN) == "\n"
    config.write_text("no TOML")
    assert asked("bash", "ensure ", nobody, MAIN) == "\n"
    config.unlink()
    assert asked("bash", "ensure ", nobody, MAIN) == "\n"
    os.mkfifo(config)
    assert asked("bash", "ensure ", nobody, MAIN) == "\n"


@pytest.mark.process
@pytest.mark.parametrize("step", [Stay(), Refusal(grpc.StatusCode.INTERNAL, "no")])
def test_a_service_that_is_no_help_is_not_waited_for(service: Script, step: Stay | Refusal) -> None:
    service.answer("ListModels", step)
    assert asked("bash", "ensure ", at(service), MAIN) == "\n"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """`pool-service` in a directory for PATH."""
    path = tmp_path / "bin/pool-service"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{PATIENT}' \"$@\"\n")
    path.chmod(0o700)
    return path


START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
SET_UP = {
    "bash": "bind 'set enable-bracketed-paste off'\n"
    'eval "$(_POOL_SERVICE_COMPLETE=bash_source pool-service)"\n',
    "zsh": "autoload -Uz compinit && compinit -u\n"
    'eval "$(_POOL_SERVICE_COMPLETE=zsh_source pool-service)"\n',
}


@pytest.mark.process
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_key_in_a_shell_completes_a_name(
    service: Script, program: Path, terminal: Terminal, shell: str
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not there")
    environment = {
        **os.environ,
        **at(catalogue(service)),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(program.parent),
        "TERM": "dumb",
    }
    process = subprocess.Popen(
        START[shell],
        env=environment,
        stdin=terminal.writer,
        stdout=terminal.writer,
        stderr=terminal.writer,
        start_new_session=True,
    )
    with process:
        try:
            os.write(terminal.reader, f"{SET_UP[shell]}echo is $((40 + 2))\n".encode())
            terminal.wait_for("is 42")
            os.write(terminal.reader, b"echo pool-service; pool-service ensure qwen3:4\t")
            terminal.wait_for("ensure qwen3:4b")
            os.write(terminal.reader, b"\x15pool-service evict q\t")
            terminal.wait_for("evict qwen3:30b")
        finally:
            process.kill()


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not there")
def test_fish_completes_a_name(service: Script, program: Path) -> None:
    script = (
        "_POOL_SERVICE_COMPLETE=fish_source pool-service | source\n"
        "complete -C 'pool-service ensure qwen3:4'\n"
    )
    environment = {
        **os.environ,
        **at(catalogue(service)),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(program.parent),
    }
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == ["qwen3:4b\ton disk"]
