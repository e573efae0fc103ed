"""The engines behind the ports of a fleet, one module or package each.

They import nothing of the rest of the fleet but its ports. `Registration`, by which a member makes
itself known, is in `etcd`.
"""
