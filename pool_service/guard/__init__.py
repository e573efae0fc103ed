"""The little process that ends servers when their service is gone and no other comes.

    python -m pool_service.guard --state-dir DIR --grace SECONDS   (started by GuardKeeper)

Its standard input is a pipe whose other end only the service has: the end of it means that
the service is gone, whatever ended it. Then it gives a successor the grace. A successor
brings a guard of its own, which sends this one away (`adapters/state_dir/guard_lock.py`); so a
pool has one guard, which is of its service's version. SIGTERM sends it away, too; a service that
lives then starts another. Should it die with its service, or before it is done, its sentry
(`adapters/state_dir/sentry.py`) becomes a guard in its place, started with --last: it leaves the
lock to whoever has it.

Until it has to act it imports only what that takes, and is about half the size.
"""
