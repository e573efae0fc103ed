import resource
import socket
from collections.abc import Iterator

import pytest

from pool_service.adapters.sockets.free_ports import FreePorts
from pool_service.core.errors import StartFailed


def test_no_two_of_many_plans_get_the_same_port() -> None:
    book = FreePorts()
    ports = [book.reserve() for _ in range(500)]
    assert len(set(ports)) == len(ports)


def test_a_port_is_free_when_it_is_handed_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", FreePorts().reserve()))


@pytest.fixture
def no_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("no_descriptors")
def test_without_descriptors_it_says_so() -> None:
    with pytest.raises(StartFailed, match="Too many open files"):
        FreePorts().reserve()
