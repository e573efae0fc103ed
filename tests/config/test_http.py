"""The address of the HTTP listener: on this machine alone, and not the one of the calls."""

import pytest

from pool_service.config import restart_needed
from tests.config.conftest import Read, Refusal


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ""),
        ("[http]", ""),
        ('[http]\nlisten = ""', ""),
        ('[http]\nlisten = "127.0.0.1:9464"', "127.0.0.1:9464"),
        ('[http]\nlisten = "127.8.9.1:1"', "127.8.9.1:1"),
        ('[http]\nlisten = "localhost:0"', "localhost:0"),
        ('[http]\nlisten = "[::1]:9464"', "[::1]:9464"),
        ('[http]\nlisten = "unix:/run/pool/http.sock"', "unix:/run/pool/http.sock"),
    ],
)
def test_it_is_on_this_machine_and_off_by_default(read: Read, text: str, address: str) -> None:
    assert read(text).http.listen == address


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:9464", "[::]:9464", "192.168.1.5:9464", "pool.example:9464", "localhost.evil:80"],
)
def test_one_that_other_machines_reach_is_refused_with_what_to_write(
    refusal: Refusal, address: str
) -> None:
    assert refusal(f'[http]\nlisten = "{address}"') == (
        f"http.listen: {address} can be reached from other machines, and this listener has no "
        "password; write 127.0.0.1:PORT, [::1]:PORT or unix:PATH"
    )


@pytest.mark.parametrize("wrong", ['"9464"', "9464", '["127.0.0.1:1"]', '"unix:"', "true"])
def test_what_is_no_address_is_refused(refusal: Refusal, wrong: str) -> None:
    assert refusal(f"[http]\nlisten = {wrong}").startswith("http.listen: ")


@pytest.mark.parametrize("address", ["127.0.0.1:50051", "unix:/run/pool.sock"])
def test_the_address_of_the_calls_cannot_be_its_own(refusal: Refusal, address: str) -> None:
    text = f'[service]\nlisten = ["{address}"]\n[http]\nlisten = "{address}"'
    told = f"http.listen: {address} is in service.listen already; choose another port or path"
    assert refusal(text) == told


@pytest.mark.parametrize(
    ("taken", "address"),
    [
        ("localhost:50051", "127.0.0.1:50051"),
        ("127.0.0.1:50051", "localhost:50051"),
        ("LOCALHOST:50051", "[::1]:50051"),
        ("[::1]:50051", "[0:0:0:0:0:0:0:1]:50051"),
        ("0.0.0.0:50051", "127.0.0.1:50051"),
        ("[::]:50051", "localhost:50051"),
        ("unix:/run/pool.sock", "unix:///run/pool.sock"),
    ],
)
def test_nor_can_it_be_the_same_in_other_words(refusal: Refusal, taken: str, address: str) -> None:
    text = f'[service]\nlisten = ["{taken}"]\n[http]\nlisten = "{address}"'
    assert refusal(text).startswith("http.listen: ")
    assert "is in service.listen already" in refusal(text)


@pytest.mark.parametrize(
    ("taken", "address"),
    [
        ("localhost:50051", "localhost:9464"),
        ("127.0.0.1:50051", "127.0.0.2:50051"),
        ("127.0.0.1:50051", "[::1]:50051"),
        ("pool.example:50051", "localhost:50051"),
        ("unix:/run/pool.sock", "unix:/run/http.sock"),
        ("unix:/run/pool.sock", "localhost:50051"),
        ("0.0.0.0:0", "localhost:0"),
    ],
)
def test_both_are_accepted_if_neither_takes_the_other(read: Read, taken: str, address: str) -> None:
    tls = '[tls]\ncert = "/c"\nkey = "/k"'
    text = f'[service]\nlisten = ["{taken}"]\n[http]\nlisten = "{address}"\n{tls}'
    assert read(text).http.listen == address


def test_both_can_have_any_free_port(read: Read) -> None:
    text = '[service]\nlisten = ["127.0.0.1:0"]\n[http]\nlisten = "127.0.0.1:0"'
    assert read(text).http.listen == "127.0.0.1:0"


def test_a_variable_sets_it(read: Read) -> None:
    variable = {"POOL_SERVICE_HTTP_LISTEN": "127.0.0.1:9464"}
    assert read("", variable).http.listen == "127.0.0.1:9464"


def test_a_change_needs_a_restart(read: Read) -> None:
    changed = read('[http]\nlisten = "127.0.0.1:9464"')
    assert restart_needed(read(""), changed) == ("http.listen",)


@pytest.mark.parametrize(("text", "is_served"), [("", True), ("page = false", False)])
def test_the_page_can_be_left_out(read: Read, text: str, *, is_served: bool) -> None:
    assert read(f'[http]\nlisten = "127.0.0.1:0"\n{text}').http.page is is_served
