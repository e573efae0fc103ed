"""Random use and random harm for minutes, with the pool's promises checked throughout.

Read `__main__.py` first: it starts a service, its callers (`callers`), what kills (`harm`) and
what looks (`watcher`, `audit`). Whatever they find goes into one `ledger`.
"""

import os

# Read when grpc is imported: with it a child that is made by fork can die before its exec.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
