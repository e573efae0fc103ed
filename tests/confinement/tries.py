"""What hostile code in a server tries, each of it in a process of its own.

    PYTHON -m tests.confinement.tries CHILDREN_DIRECTORY LAYERS

LAYERS: "none", "landlock", "filter", or "both", with the ABI of Landlock to use behind it, as in
"both:3". Prints one object of JSON: for each try whether it did harm.

This process is in the place of the service: it has a state directory, sockets, and a secret in its
memory. For each try it prepares a fresh scene, and forks; the child confines itself and acts.
Afterwards this process looks for the harm. Imports only the standard library.
"""

import contextlib
import ctypes
import importlib
import json
import mmap
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.confinement import file_tries, process_tries, socket_tries  # noqa: F401  # add tries
from tests.confinement.scene import TRIES, Act, Scene, call

REFUSALS = (OSError, subprocess.SubprocessError)
"""What a try raises if it is refused."""


def did_harm(scene: Scene, name: str, confine: Callable[[Scene], None]) -> bool:
    """Run one try; return whether it did harm."""
    act, harm = TRIES[name]
    scene.reset()
    with contextlib.ExitStack() as stack:
        scene.listen_at_paths(stack)
        child = os.fork()
        if not child:
            run(scene, act, confine)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code not in (0, 1):
            raise RuntimeError(f"{name} ended with {code}")
        result = harm(scene) if harm else code == 0
    for listener in (scene.tcp, scene.udp, scene.named):
        drain(listener)
    return result


def run(scene: Scene, act: Act, confine: Callable[[Scene], None]) -> None:
    """Confine this process, act, and end it: with 1 if that was refused."""
    try:
        os.setsid()
        os.chdir(scene.work)
        confine(scene)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(3)
    # A refusal must never be a wait.
    signal.alarm(20)
    try:
        act(scene)
    except REFUSALS as error:
        os.write(scene.report, f"{act.__name__}: {error!r}\n".encode())
        os._exit(1)
    except BaseException as error:
        print(act.__name__, repr(error), file=sys.stderr)
        os._exit(2)
    os._exit(0)


def drain(listener: socket.socket) -> None:
    while select.select([listener], [], [], 0)[0]:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(100)
        else:
            listener.accept()[0].close()


def confinement(layers: str) -> Callable[[Scene], None]:
    """Return the function that confines a process by these layers."""
    name, _, version = layers.partition(":")
    modules = ("call_filter", "confine", "landlock")
    call_filter, confine, landlock = map(
        importlib.import_module, map("confinement.{}".format, modules)
    )

    def act(scene: Scene) -> None:
        if name == "landlock":
            vars(call_filter)["install"] = lambda _: None
        if name == "filter":
            vars(landlock)["restrict"] = lambda *_: None
        if name == "none":
            return
        confine.Confinement(
            {
                "readable": [str(scene.model)],
                "ports": [0],
                "private": [str(scene.home), str(scene.state)],
                "abi": int(version or 99),
            }
        )

    return act


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    confine = confinement(sys.argv[2])
    root = Path(tempfile.mkdtemp(prefix="tries-", dir="/tmp"))
    results: dict[str, Any] = {}
    try:
        with contextlib.ExitStack() as stack:
            scene = Scene(root)
            scene.listen(stack)
            scene.segment = call(29, 194, 0, ctypes.c_size_t(mmap.PAGESIZE), 0o1600)
            try:
                for name in sys.argv[3:] or TRIES:
                    results[name] = did_harm(scene, name, confine)
            finally:
                call(31, 195, scene.segment, 0, None)
    finally:
        shutil.rmtree(root)
        Path("/dev/shm", f"pool-test-{os.getpid()}").unlink(missing_ok=True)
    os.close(scene.report)
    refusals = os.read(scene.out, 1 << 16).decode() if results else ""
    print(json.dumps({"harm": results, "refusals": refusals.splitlines()}))


if __name__ == "__main__":
    main()
