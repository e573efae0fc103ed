"""The front of a fleet: the API of one pool over the pools of many hosts.

The members are ordinary pool services, which promise alone what they promise in a fleet. The front
keeps nothing on disk: what it knows, the members have told it.
"""
