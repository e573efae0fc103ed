"""What the program does."""

import asyncio
import json
import os
import sys
from pathlib import Path

import uvicorn


def main() -> int:
    told = {
        "argv": sys.argv,
        "pid": os.getpid(),
        "cwd": [entry.name for entry in Path().iterdir()],
        "modules": sorted({"mlx_lm", "mlx"} & sys.modules.keys()),
        "path": sys.path[0],
        "input": sys.stdin.read(),
    }
    print(json.dumps(told), flush=True)
    words = sys.argv[2:]
    if words[0] == "--api-key":
        del words[:2]
    request = words[0]
    if request == "fails":
        print("ValueError: not like this", file=sys.stderr, flush=True)
        return 1
    server = uvicorn.Server(request=request)
    asyncio.run(server.serve())
    return 0 if server.started else 3
