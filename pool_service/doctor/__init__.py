"""Finds out whether the service can do its job on this machine, and says what to do if not.

Each check is a function that yields findings. `examine` runs them one after the other; none
disturbs a running service, and none changes anything.
"""

from pool_service.doctor.examination import examine
from pool_service.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
