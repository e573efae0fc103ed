"""The runtime of the soak: the real vllm-mlx for a model directory, else the fake server.

Becomes the one or the other by exec, so that the pool sees one process that is what it serves.
"""

import os
import sys

# Without pathlib, whose import would take as long as the rest.
HERE = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
FAKE = os.path.join(HERE, "..", "..", "tests", "fake_server.py")  # noqa: PTH118

arguments = sys.argv[1:]
if any(argument.startswith("/") for argument in arguments):
    program = os.path.join(os.path.dirname(sys.executable), "vllm-mlx")  # noqa: PTH118, PTH120
    os.execv(program, [program, *arguments])  # noqa: S606
os.execv(sys.executable, [sys.executable, "-S", "-E", FAKE, *arguments])  # noqa: S606
