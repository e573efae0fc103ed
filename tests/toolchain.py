"""Whether the compilers and interpreters of other languages are here, and run."""

import os
import shutil
import subprocess

import pytest

VERSION = {"go": "version", "java": "-version", "grpc_cpp_plugin": None}
"""How a program is asked for its version where it is not by --version; None: it cannot be."""

ANSWERS_WITHIN_S = 60
"""A shim may look for, or a first start set up, what it stands for."""


def trouble_with(program: str) -> str:
    """Return why `program` cannot be used, in words; empty if it runs.

    A program that is found on PATH may still not run: rustup's cargo without a toolchain does
    not, nor does a version manager's shim without a version.
    """
    if shutil.which(program) is None:
        return f"{program} is not installed"
    question = VERSION.get(program, "--version")
    if question is None:
        return ""
    try:
        asked = subprocess.run(
            [program, question],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=ANSWERS_WITHIN_S,
            check=False,
        )
    except OSError as error:
        return f"{program} is there, but does not run: {error.strerror}"
    except subprocess.TimeoutExpired:
        return f"{program} is there, but did not answer within {ANSWERS_WITHIN_S} s"
    if asked.returncode == 0:
        return ""
    said = asked.stdout.strip().splitlines() or [f"exit code {asked.returncode}"]
    return f"{program} is there, but does not run: {said[0]}"


def needed(*programs: str) -> None:
    """Skip the test if a program is missing; with CI set, fail it."""
    troubles = [trouble for program in programs if (trouble := trouble_with(program))]
    if troubles:
        reason = ", ".join(troubles)
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; CI has to run this")
        pytest.skip(reason)
