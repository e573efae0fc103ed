"""Gives vllm-mlx the key that requests to its server must show.

The runtime's interpreter runs this file, so it imports only the standard library.

The key is one of the arguments that vllm-mlx reads, and none of those of the process: every user of
the machine can see the latter (`ps`), and programs that a server starts inherit its environment.
"""

import os

OPTION = "--api-key"

MAX_READ_BYTES = 4096


def receive() -> str:
    """Return the key on the standard input, which is empty from then on; "" if there is none."""
    key = b""
    while part := os.read(0, MAX_READ_BYTES):
        key += part
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return key.decode()


def with_key(argv: "list[str]", key: str) -> "list[str]":
    """Return the arguments of vllm-mlx with its key, if it has one.

    The key is inserted directly behind `serve`: arguments after a `--` are no options.
    """
    at = argv.index("serve") + 1 if "serve" in argv else len(argv)
    return [*argv[:at], OPTION, key, *argv[at:]] if key else argv
