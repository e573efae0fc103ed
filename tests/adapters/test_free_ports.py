import resource
import socket
from collections.abc import Iterator

import pytest

from pool_service.adapters.sockets.free_ports import FreePorts
from pool_service.core.errors import StartFailed
from tests.second_address import NOWHERE, SECOND_LOOPBACK


def test_no_two_of_many_plans_get_the_same_port() -> None:
    book = FreePorts()
    ports = [book.reserve() for _ in range(500)]
    assert len(set(ports)) == len(ports)


def test_a_port_is_free_when_it_is_handed_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", FreePorts().reserve()))


@pytest.mark.parametrize("host", [SECOND_LOOPBACK, "::1"])
def test_a_port_is_one_of_the_address_that_is_to_be_taken(host: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.bind((host, FreePorts(host).reserve()))


def test_without_the_address_it_says_so() -> None:
    with pytest.raises(StartFailed, match=r"on 192\.0\.2\.1: .*assign requested address"):
        FreePorts(NOWHERE).reserve()


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
