"""A process of another program that has come up."""

import subprocess
from collections.abc import Mapping
from pathlib import Path


def under_way(
    environment: Mapping[str, str], directory: Path | None = None
) -> "subprocess.Popen[bytes]":
    """One that leads a session and runs until it is killed, its `exec` over.

    Popen returns while the kernel still sets the new program up: for some milliseconds Linux
    tells neither its arguments nor its environment.
    """
    process = subprocess.Popen(
        ["/bin/cat"],
        env=environment,
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"x")
    assert process.stdout.read(1) == b"x"
    return process
