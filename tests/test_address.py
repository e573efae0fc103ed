from pathlib import Path

import pytest

from pool_service.address import Address, AddressError


@pytest.mark.parametrize(
    "text",
    [
        *("h:²", "h:9" + "9" * 5000, "::1:50051", "h:1,h:2", "http://h:80", "a b:80"),
        *("unix:", "unix://", "unix:/a\0b", "unix-abstract:x"),
    ],
)
def test_what_only_looks_like_an_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError, match="host:port or unix:PATH"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["[::1]:50051", "localhost:0", "0.0.0.0:65535"])
def test_host_and_port_stay_as_they_are(text: str) -> None:
    assert Address.parse(text) == Address(text, None)


def test_a_tilde_stands_for_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    assert Address.parse("unix:~/x.sock").path == Path("/somebody/x.sock")


def test_a_parsed_address_reads_as_itself() -> None:
    once = Address.parse("unix:x.sock")
    assert Address.parse(once.text) == once


def test_a_socket_path_that_grpc_would_decode_is_refused() -> None:
    with pytest.raises(AddressError, match="'%'"):
        Address.parse("unix:/run/a%41.sock")
