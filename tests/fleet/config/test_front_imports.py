"""What a front imports, since that is most of its start."""

import subprocess
import sys

SERVICE_ALONE = ("pool_service.config.config", "pool_service.pool", "pool_service.core.machine")
"""Modules that a service needs: the types of all its keys, and its decisions."""

PROGRAM = f"""
import sys
import pool_service.cli.fleet_service
import pool_service.fleet.app
print([name for name in {SERVICE_ALONE} if name in sys.modules])
"""


def test_a_front_does_without_the_modules_that_a_service_alone_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
