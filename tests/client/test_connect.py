import pytest

from pool_service_client.connect import each_of, target
from pool_service_client.tls import is_this_machine


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:65535", "host.local:50051", "unix:/a/b"])
def test_addresses(address: str) -> None:
    assert target(address, {}) == address


@pytest.mark.parametrize(
    "address",
    [
        "host",
        ":1",
        "host:0",
        "host:65536",
        "host:x",
        "unix:",
        "::1:1",
        "http://h:1",
        "a:1,",
        "a:1,b",
        "a:1,unix:/b",
    ],
)
def test_what_is_no_address_is_refused_with_what_one_is(address: str) -> None:
    with pytest.raises(ValueError, match="write host:port or unix:PATH"):
        target(address, {})


def test_several_addresses_are_separated_by_commas_which_a_path_may_have() -> None:
    assert target("a:1, [::1]:2,b:3", {}) == "a:1,[::1]:2,b:3"
    assert each_of(target("a:1,b:2", {})) == ["a:1", "b:2"]
    assert each_of(target("unix:/a,b:2", {})) == ["unix:/a,b:2"]


def test_several_addresses_are_this_machine_if_each_is() -> None:
    assert is_this_machine("127.0.0.1:1,localhost:2,[::1]:3")
    assert not is_this_machine("127.0.0.1:1,10.0.0.1:2")


def test_the_environment_stands_in_for_an_address() -> None:
    assert target(None, {"POOL_SERVICE_ADDRESS": "unix:/s"}) == "unix:/s"
    assert target("h:1", {"POOL_SERVICE_ADDRESS": "unix:/s"}) == "h:1"


def test_without_any_it_is_the_default_of_the_service() -> None:
    nowhere = {"XDG_STATE_HOME": "/nonexistent"}
    assert target(None, nowhere) == "127.0.0.1:50051"
    assert target("", nowhere | {"POOL_SERVICE_ADDRESS": ""}) == "127.0.0.1:50051"


def test_the_home_directory_stands_for_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somebody")
    assert target("unix:~/run/pool.sock", {}) == "unix:/somebody/run/pool.sock"
    assert target(None, {"POOL_SERVICE_ADDRESS": "unix:~/s"}) == "unix:/somebody/s"
    assert target("unix:/a/~/b", {}) == "unix:/a/~/b"


def test_a_home_that_nobody_has_is_refused() -> None:
    with pytest.raises(ValueError, match="home directory that is not known"):
        target("unix:~no-such-user/s", {})


def test_what_cannot_be_text_is_no_address() -> None:
    with pytest.raises(ValueError, match="write host:port or unix:PATH"):
        target("unix:/\udcff", {})
