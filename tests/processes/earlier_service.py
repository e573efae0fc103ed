"""Plays a service that starts servers and is killed: takes records, spawns, gives records.

    python -m tests.processes.earlier_service STATE_DIR

Each line of its input is the record of a server that is to be spawned, each line of its output
that of one that was. Its servers' ends it does not look at.
"""

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

from pool_service.adapters.logs.logs import LogStore
from pool_service.adapters.process.processes import LocalProcesses
from pool_service.adapters.records.record_format import decode, encode
from pool_service.core.server import Phase, Server


async def serve(state_dir: Path) -> None:
    processes = LocalProcesses(state_dir, LogStore(state_dir))
    for line in sys.stdin.buffer:
        record = decode(line)
        server = record.entry
        assert isinstance(server, Server)
        assert server.plan
        process = await processes.spawn(server.model, server.generation, server.plan)
        started = replace(
            server,
            phase=Phase.STARTING,
            identity=process.identity,
            log_path=process.log_path,
        )
        print(encode(replace(record, entry=started)).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
