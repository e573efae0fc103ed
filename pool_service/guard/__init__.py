"""The guard (watchdog): a small process that ends servers when their service is gone for good.

    python -m pool_service.guard --state-dir DIR --grace SECONDS   (started by GuardKeeper)

1. Only the service holds the other end of the guard's standard input, a pipe. Its end means that
   the service is gone, for whatever reason.
2. The guard then waits the grace period for the next service. That service starts its own guard,
   which ends this one (`adapters/state_dir/guard_lock.py`): a pool has one guard, of the same
   version as its service. If no service comes, the guard ends the servers (`orphans.py`).
3. SIGTERM ends the guard; a running service then starts another one.
4. If the guard dies with its service, or before it is done, its sentry
   (`adapters/state_dir/guard_sentry.py`) becomes a guard. It is started with --last, as the last
   in line: it ends no other guard, and takes the guard's lock only if that is free.
"""
