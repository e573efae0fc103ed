"""A service that waits for its standbys however busy the machine is.

Otherwise one that does not take its arguments in time is given up for the plain command.
"""

import sys

_PATIENT = """
import sys
from pool_service.cli import main
from pool_service.adapters.standby import standbys
standbys.WAITING_TIMEOUT_S = standbys.NEW_TIMEOUT_S = 120.0
del sys.argv[0]
main()
"""

PATIENT = (sys.executable, "-c", _PATIENT)
"""The `wrapper` of `tools.demo.service.running` that makes it so."""
