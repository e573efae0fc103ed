"""Random use and random harm for minutes, with the pool's promises checked throughout.

Read `__main__.py` first: it starts a service, its callers (`callers`), what kills (`harm`) and
what looks (`watcher`, `audit`). Whatever they find goes into one `ledger`.
"""
