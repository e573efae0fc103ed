"""Launching one process from a plan. Blocking: for a worker thread.

The process gets
1. its own session, so that a signal that ends the service does not end it;
2. no input but the key of the server, and a file for its output: a pipe would break when the
   service ends;
3. no file descriptor of the service;
4. the plan's environment and NONCE_VARIABLE, which all of its descendants inherit;
5. a working directory with nothing but the plan's files and the prompts lent to it, since
   runtimes try a model id as a relative path first.

The variable's value and the working directory's name are the plan's nonce. So a record of the plan
suffices to find the process.
"""

import contextlib
import errno
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pool_service.adapters import children
from pool_service.adapters.children import kept_prompts
from pool_service.adapters.logs.logs import LogStore, open_for_append
from pool_service.adapters.process.identity import boot_id, identity_of
from pool_service.adapters.prompts.lending import lend
from pool_service.adapters.prompts.reports import unasked_bytes
from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.search import python_of
from pool_service.adapters.sandbox.surroundings import confined_command, sandbox_variables
from pool_service.adapters.system.os_errors import explain, raise_shortage
from pool_service.adapters.system.process_settings import restore_descriptor_limit
from pool_service.core.errors import RuntimeUnavailable, StartFailed
from pool_service.core.types import Identity, LaunchPlan

SERVER_CHILD = Path(children.__file__).with_name("server_child.py")

NONCE_VARIABLE = "POOL_SERVICE_NONCE"

_NOT_A_PROGRAM = {
    errno.EACCES: "it is not executable; check its permissions (chmod +x)",
    errno.ENOEXEC: "it is not a program of this machine: no known format and no #! line",
    errno.ENOTDIR: "part of its path is no directory",
    errno.ELOOP: "its path has too many symbolic links",
    errno.ENAMETOOLONG: "its path is too long",
    # macOS's EBADARCH, EBADEXEC and EBADMACHO of <sys/errno.h>.
    86: "it is built for another kind of processor",
    85: "its format is damaged",
    88: "its format is damaged",
}


@dataclass(frozen=True, slots=True, eq=False)
class Child:
    """A child process of the service, with its log file and its nonce.

    from_standby: the process was a standby that had imported everything.
    """

    popen: "subprocess.Popen[bytes]"
    identity: Identity
    log_path: Path
    nonce: str
    from_standby: bool = False


def launch(model: str, generation: int, plan: LaunchPlan, state_dir: Path, logs: LogStore) -> Child:
    """Start the process of one generation.

    Raises:
        RuntimeUnavailable: the plan's program is missing or not executable.
        StartFailed: the log or working directory cannot be made, or the system lacks processes
            or descriptors.
    """
    with contextlib.ExitStack() as undo, as_start_failed(model, state_dir):
        log_path = logs.create(model, generation)
        undo.callback(logs.remove, log_path)
        work_dir = make_work_dir(state_dir, plan.nonce)
        undo.callback(shutil.rmtree, work_dir, ignore_errors=True)
        variables = furnish(plan, work_dir)
        variables |= sandbox_variables(plan.sandbox, dict(plan.environment), work_dir)
        popen = _start(model, plan, variables, log_path, work_dir)
        undo.callback(_abandon, popen)
        # The child is not reaped yet, so the pid is its own even if it has ended. If the system
        # reports nothing of an ended process, its start time does not matter.
        identity = identity_of(popen.pid) or Identity(popen.pid, 0, boot_id())
        undo.pop_all()
    return Child(popen, identity, log_path, plan.nonce)


def work_dirs(state_dir: Path) -> Path:
    """Return the directory that holds the working directories, each named by its nonce."""
    return state_dir / "work"


def work_dir_nonces(state_dir: Path) -> list[str]:
    """Return the nonces of all working directories; none if they cannot be listed.

    Raises OSError if that is so because the system lacks descriptors or memory.
    """
    try:
        with os.scandir(work_dirs(state_dir)) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise_shortage(error)
        return []


def make_work_dir(state_dir: Path, nonce: str) -> Path:
    """Make the empty working directory of a process and return it. Raises OSError."""
    directory = work_dirs(state_dir) / nonce
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700)
    return directory


def furnish(plan: LaunchPlan, work_dir: Path) -> dict[str, str]:
    """Put what a process of this plan needs into its working directory. Raises OSError.

    Return the variables by which the programs in `children/` find it.
    """
    for name, content in plan.files:
        descriptor = os.open(work_dir / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  # by its descriptor
            file.write(content)
    cache = plan.prompt_cache
    if cache is None:
        return {}
    sent = {"directory": str(lend(cache, work_dir)), "unasked_bytes": unasked_bytes(cache)}
    return {kept_prompts.VARIABLE: json.dumps(sent)}


def command_of(plan: LaunchPlan, work_dir: Path) -> tuple[str, ...]:
    """Return the command line that starts a plan's program. Raises OSError.

    vllm-mlx is started through `server_child.py`, followed by its own command line, which stays
    readable in `ps`; that also confines it. A program that is no Python script (an operator's
    wrapper) starts directly, or is confined by `confined_child.py`.
    """
    program = Path(plan.argv[0])
    is_vllm_mlx = plan.kind == "vllm-mlx" and program.name == vllm_mlx.PROGRAM
    python = python_of(program) if is_vllm_mlx else None
    command = (*python, str(SERVER_CHILD), *plan.argv) if python else plan.argv
    return confined_command(command, plan.sandbox, work_dir, confines_itself=bool(python))


def _start(
    model: str, plan: LaunchPlan, variables: Mapping[str, str], log_path: Path, work_dir: Path
) -> "subprocess.Popen[bytes]":
    output = open_for_append(log_path)
    command = command_of(plan, work_dir)
    try:
        with _input(plan.api_key if str(SERVER_CHILD) in command else "") as given:
            popen = subprocess.Popen(  # noqa: S603 - a list of arguments, from the settings
                command,
                env={**dict(plan.environment), **variables, NONCE_VARIABLE: plan.nonce},
                cwd=work_dir,
                stdin=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
    except OSError as error:
        if error.errno == errno.ENOENT or error.errno in _NOT_A_PROGRAM:
            raise _unusable(model, plan.argv[0], error) from error
        raise
    finally:
        os.close(output)
    restore_descriptor_limit(popen.pid)
    return popen


@contextlib.contextmanager
def _input(key: str) -> Iterator[int]:
    """Yield the standard input of a process that reads the server's key from it; "": nothing."""
    if not key:
        yield subprocess.DEVNULL
        return
    reader, writer = os.pipe()
    try:
        # Less than any pipe holds, so this does not wait for a reader.
        os.write(writer, key.encode())
        os.close(writer)
        yield reader
    finally:
        os.close(reader)


def _abandon(popen: "subprocess.Popen[bytes]") -> None:
    popen.kill()
    popen.wait()


def _unusable(model: str, program: str, error: OSError) -> RuntimeUnavailable:
    """Return the error for a program that cannot be executed, with its reason and remedy."""
    if error.errno != errno.ENOENT:
        why = _NOT_A_PROGRAM[error.errno or 0]
    elif Path(program).exists():
        why = "the interpreter that its first line names does not exist; install the runtime again"
    else:
        why = "there is no such file; install the runtime or correct its command"
    return RuntimeUnavailable(f"cannot start the runtime {program!r}: {why}", model=model)


@contextlib.contextmanager
def as_start_failed(model: str, state_dir: Path) -> Iterator[None]:
    """Raise an OSError of the block as a StartFailed that says why and what to do."""
    try:
        yield
    except OSError as error:
        message = f"cannot start a process for {model!r}: {explain(error, state_dir)}"
        raise StartFailed(message, model=model) from error
