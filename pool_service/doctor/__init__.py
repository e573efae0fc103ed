"""The doctor: checks whether the service can work on this machine, and says what to do if not.

Each check is a function that yields findings; `examine` runs all. No check changes anything or
disturbs a running service.
"""

from pool_service.doctor.examination import examine
from pool_service.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Verdict", "examine"]
