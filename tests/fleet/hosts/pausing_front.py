"""A front that stops between its check that it leads and its placing of a model.

`python -m tests.fleet.hosts.pausing_front FILE fleet serve …` is `pool-service fleet serve …`,
whose process gets SIGSTOP at the one point where no signal from outside hits for sure: it has
decided where a model starts, has checked that it leads, and has sent nothing yet. This happens
once, if FILE is there, which is deleted before.
"""

import os
import signal
import sys
from pathlib import Path

from pool_service.access.principal import Principal
from pool_service.cli import main
from pool_service.fleet.rpc.forwarding import Forwarding
from pool_service.fleet.rpc.journey import Stage

_call_at = Forwarding._call_at


def stopping(file: Path) -> None:
    def call_at(self: Forwarding, stage: Stage, principal: Principal, *, hold: str = "") -> bytes:
        call = _call_at(self, stage, principal, hold=hold)
        if stage.seat is not None and file.exists():
            file.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)
        return call

    Forwarding._call_at = call_at  # type: ignore[method-assign]


if __name__ == "__main__":
    stopping(Path(sys.argv.pop(1)))
    main()
