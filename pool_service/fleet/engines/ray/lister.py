"""Writes the members among the nodes of a Ray cluster to stdout, a JSON list a second.

Runs as `PYTHON lister.py HOST:PORT` in an environment that has Ray in the cluster's version, and
imports nothing else. Ray ends the processes that use it when its head is away: so this is no part
of the front. Ends with its stdin, which closes when the front has ended.
"""

import json
import os
import sys
import threading
import time

import ray

INTERVAL_S = 1.0

PORT, NAME = "pool", "pool-name"
"""The labels of a node that is a member: the port of its pool service, and its name, if that is not
the host's."""


def members(nodes: "list[dict[str, object]]") -> "list[tuple[str, str]]":
    """Return the name and the address of each node that is alive and has the label."""
    found = []
    for node in nodes:
        labels = node.get("Labels")
        if not node.get("Alive") or not isinstance(labels, dict) or PORT not in labels:
            continue
        host = str(node["NodeManagerAddress"])
        bracketed = f"[{host}]" if ":" in host else host
        name = labels.get(NAME) or node.get("NodeManagerHostname") or host
        found.append((str(name), f"{bracketed}:{labels[PORT]}"))
    return sorted(found)


def end_with_stdin() -> None:
    """End this process when the front has."""
    sys.stdin.read()
    os._exit(0)


def main(address: str) -> None:
    """Write the members until the end of stdin."""
    threading.Thread(target=end_with_stdin, daemon=True).start()
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    while True:
        print(json.dumps(members(ray.nodes())), flush=True)
        time.sleep(INTERVAL_S)


if __name__ == "__main__":
    main(sys.argv[1])
