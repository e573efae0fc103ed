"""Confines the process of a server: what it may read, change, call and reach (Linux).

The runtime's interpreter imports these files, so they import only the standard library, and each
other relative to themselves: the tests and the service know them by a longer name.
"""
