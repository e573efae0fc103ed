"""Encryption: of every address that other machines reach, and of no other."""

from pathlib import Path

import pytest

from pool_service.config import restart_needed
from tests.config.conftest import Read, Refusal

PAIR = "cert = '/c'\nkey = '/k'"


def listening(*addresses: str, tls: str = "") -> str:
    return f"[service]\nlisten = {list(addresses)}\n[tls]\n{tls}\n"


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.168.1.5:1", "pool.example:1", "localhost.example:1"]
)
def test_where_other_machines_connect_there_must_be_a_certificate(
    read: Read, refusal: Refusal, address: str
) -> None:
    told = refusal(listening("127.0.0.1:1", address))
    assert told.startswith(f"service.listen: {address} can be reached from other machines")
    assert "set tls.cert and tls.key" in told
    assert "127.0.0.1:PORT" in told
    assert read(listening("127.0.0.1:1", address, tls=PAIR)).service.listen[1] == address


def test_a_variable_or_flag_that_names_such_an_address_is_named(refusal: Refusal) -> None:
    told = refusal("", {"POOL_SERVICE_LISTEN": "0.0.0.0:1"})
    assert told.startswith("POOL_SERVICE_LISTEN: 0.0.0.0:1 can be reached")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:/s"])
def test_on_this_machine_there_need_be_none(read: Read, address: str) -> None:
    assert read(listening(address)).tls.cert is None


@pytest.mark.parametrize(
    ("tls", "told"),
    [
        ("cert = '/c'", "tls.cert: has no effect without key"),
        ("key = '/k'", "tls.key: has no effect without cert"),
        ("client_ca = '/a'", "tls.client_ca: has no effect without cert and key"),
        (f"{PAIR}\ntoken_addresses = ['0.0.0.0:1']", "has no effect without client_ca"),
        (
            f"{PAIR}\nclient_ca = '/a'\ntoken_addresses = ['0.0.0.0:2']",
            "0.0.0.0:2 is not in service.listen",
        ),
        (
            f"{PAIR}\nclient_ca = '/a'\ntoken_addresses = ['127.0.0.1:1']",
            "is on this machine, where nobody needs a certificate",
        ),
        (f"{PAIR}\ntoken_addresses = ['nowhere']", "'nowhere' is not an address"),
        ("cert = 5", "tls.cert: must be the path of a file"),
        ("cert = ''", "tls.cert: is empty"),
    ],
)
def test_what_does_not_go_together_is_refused(refusal: Refusal, tls: str, told: str) -> None:
    assert told in refusal(listening("127.0.0.1:1", "0.0.0.0:1", tls=tls))


def test_the_files_are_found_as_directories_are(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    tls = read("[tls]\ncert = '~/tls/service.pem'\nkey = 'service.key'").tls
    assert (tls.cert, tls.key) == (Path("/home/me/tls/service.pem"), tmp_path / "service.key")


def test_other_files_need_a_restart(read: Read) -> None:
    changed = read("[tls]\ncert = '/other'\nkey = '/k'")
    assert restart_needed(read(f"[tls]\n{PAIR}"), changed) == ("tls.cert",)
