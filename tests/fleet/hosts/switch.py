"""A bridge with links to hosts, each in a network namespace of its own, and one to the tests."""

import itertools
import os
import socket
from contextlib import suppress
from dataclasses import dataclass

from tests.fleet.hosts.namespaces import RefusedError, configure, in_thread, new_network, path

NETWORKS = 256
"""How many networks there can be at a time, each with its own 10.213.N.0/24."""

TESTS = 254
"""The last part of the address that the tests have."""

NOBODY = "02:00:00:00:00:00"
"""A hardware address that no host has."""


@dataclass(frozen=True, slots=True)
class End:
    """An end of a link: port is the device at the bridge, device that in the namespace."""

    port: str
    device: str
    namespace: int
    address: str


class Switch:
    """A bridge, until `close`. Hosts are known by name; the tests are "".

    link: the name of the tests' link.
    """

    def __init__(self) -> None:
        self._number, self._claim = _claimed_number()
        self._numbers = itertools.count(1)
        self._blocked: set[tuple[str, str]] = set()
        _remove_links(f"fleet{self._number}-")
        self._bridge = new_network()
        configure(self._bridge, ["link add name bridge0 type bridge", "link set bridge0 up"])
        # As many characters as a name of a device may have.
        self.link = f"fleet{self._number}-{os.getpid():x}"[:15]
        tests = in_thread(lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY))
        self._ends = {"": End("p0", self.link, tests, self._address(TESTS))}
        self._connect(self._ends[""])

    @property
    def names(self) -> set[str]:
        """The names of all that have a link."""
        return set(self._ends)

    def address(self, name: str) -> str:
        """Return the address that a host has."""
        return self._ends[name].address

    def namespace(self, name: str) -> int:
        """Return a descriptor of the network namespace of a host."""
        return self._ends[name].namespace

    def add(self, name: str) -> None:
        """Make the network namespace of a host, with a link."""
        number = next(self._numbers)
        if number >= TESTS:
            raise ValueError("a network has no more addresses")
        self._ends[name] = End(f"p{number}", "eth0", new_network(), self._address(number))
        self._connect(self._ends[name])

    def renew(self, name: str) -> None:
        """Give a host a new network namespace, with the same addresses and a link that works.

        What the old kernel of the host would still have sent is lost.
        """
        for other in self.names - {name}:
            self.unblock(other, name)
        old = self._ends[name]
        # The kernel takes its time to end a namespace, and the link with it.
        configure(self._bridge, [f"link del {old.port}"])
        os.close(old.namespace)
        self._blocked -= {pair for pair in self._blocked if pair[0] == name}
        self._ends[name] = End(old.port, old.device, new_network(), old.address)
        self._connect(self._ends[name])

    def plug(self, name: str, *, connected: bool) -> None:
        """Connect a host to the bridge, or take its link down."""
        configure(
            self._bridge, [f"link set {self._ends[name].port} {'up' if connected else 'down'}"]
        )

    def block(self, sender: str, receiver: str) -> None:
        """Lose all packets from one host to another, silently.

        The sender has a wrong hardware address for the receiver. What finds addresses (ARP) still
        passes, so that packets in the other direction arrive.
        """
        end, address = self._ends[sender], self.address(receiver)
        configure(
            end.namespace,
            [f"neigh replace {address} lladdr {NOBODY} dev {end.device} nud permanent"],
        )
        self._blocked.add((sender, receiver))

    def unblock(self, sender: str, receiver: str) -> None:
        """Lose no more packets from one host to another, if they were lost."""
        if (sender, receiver) in self._blocked:
            end, address = self._ends[sender], self.address(receiver)
            configure(end.namespace, [f"neigh del {address} dev {end.device}"])
            self._blocked.discard((sender, receiver))

    def close(self) -> None:
        """Remove all links and, where no process is left in them, all namespaces."""
        configure(self._bridge, [f"link del {self._ends[''].port}"])
        for namespace in (self._bridge, *(end.namespace for end in self._ends.values())):
            os.close(namespace)
        self._claim.close()

    def _address(self, number: int) -> str:
        return f"10.213.{self._number}.{number}"

    def _connect(self, end: End) -> None:
        parts = (f"{int(part):02x}" for part in end.address.split("."))
        hardware = ":".join(("02", "00", *parts))
        peer = f"peer name {end.device} address {hardware} netns {path(end.namespace)}"
        configure(
            self._bridge,
            [
                f"link add {end.port} type veth {peer}",
                f"link set {end.port} master bridge0 up",
            ],
            [end.namespace],
        )
        configure(
            end.namespace,
            [
                "link set lo up",
                f"address add {end.address}/24 dev {end.device}",
                f"link set {end.device} up",
            ],
        )


def _claimed_number() -> tuple[int, socket.socket]:
    """Return the number of a network that no other process has, and what keeps it from others.

    An abstract socket: it is gone with this process, however that ends.
    """
    claim = socket.socket(socket.AF_UNIX)
    for number in range(NETWORKS):
        with suppress(OSError):
            claim.bind(f"\0pool-tests-fleet-{number}")
            return number, claim
    claim.close()
    raise ValueError("there are too many networks of tests at a time")


def _remove_links(start: str) -> None:
    """Remove links of a killed run, which the kernel may not have removed yet."""
    tests = in_thread(lambda: os.open("/proc/thread-self/ns/net", os.O_RDONLY))
    try:
        for _, name in socket.if_nameindex():
            if name.startswith(start):
                # The kernel may be quicker.
                with suppress(RefusedError):
                    configure(tests, [f"link del {name}"])
    finally:
        os.close(tests)
