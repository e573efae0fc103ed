"""The address of a fleet: whether it is there, and which runtimes may not keep what it demands."""

from dataclasses import replace
from pathlib import Path

import pytest

from pool_service.adapters.runtime.advertised import (
    address_flaw,
    address_notices,
    binding_doubt,
    check_address,
    key_doubt,
)
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.sockets.own_addresses import is_own_address
from pool_service.core.errors import RuntimeUnavailable
from tests.second_address import NOWHERE, SECOND_LOOPBACK

OURS = RuntimeOptions(Path(), command=("our-server", "--port", "{port}"), host="10.0.0.11")
KNOWN = RuntimeOptions(Path(), command=("llama-server",), host="10.0.0.11")
VLLM_MLX = RuntimeOptions(Path(), host="10.0.0.11")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", SECOND_LOOPBACK])
def test_an_address_of_this_machine_is_told_from_others(host: str) -> None:
    assert is_own_address(host)
    assert not is_own_address(NOWHERE)
    assert not is_own_address("2001:db8::1")


def test_only_an_address_that_is_not_there_is_told_of() -> None:
    for host in ("", SECOND_LOOPBACK):
        assert address_flaw(host) == ""
        assert address_notices(host) == []
        check_address(host, "m")
    (notice,) = address_notices(NOWHERE)
    assert notice == f"No server can start: {address_flaw(NOWHERE)}."
    with pytest.raises(RuntimeUnavailable, match="bring up the network that has it, or correct"):
        check_address(NOWHERE, "m")


@pytest.mark.parametrize("runtime", [VLLM_MLX, KNOWN])
def test_programs_that_the_pool_knows_are_told_the_address(runtime: RuntimeOptions) -> None:
    assert binding_doubt(runtime) == ""
    elsewhere = replace(runtime, command=(*runtime.command, "--host", "0.0.0.0"))
    assert "write {host} where" in binding_doubt(elsewhere)
    for host in ("{host}", "10.0.0.11"):
        there = replace(runtime, command=(*runtime.command, f"--host={host}"))
        assert binding_doubt(there) == ""


def test_a_command_must_name_the_address_or_its_placeholder() -> None:
    assert "write {host} where" in binding_doubt(OURS)
    # Then it runs as it is written.
    assert binding_doubt(replace(KNOWN, kind="plain"))
    for word in ("{host}", "--listen={host}:{port}", "10.0.0.11"):
        assert binding_doubt(replace(OURS, command=(*OURS.command, word))) == ""
    assert binding_doubt(replace(OURS, host="")) == ""


def test_a_program_without_a_key_is_open_to_whoever_reaches_it() -> None:
    assert "whoever reaches 10.0.0.11 can use them" in key_doubt(OURS)
    assert key_doubt(replace(OURS, command=(*OURS.command, "{api_key_file}"))) == ""
    assert key_doubt(replace(OURS, environment=(("KEY", "{api_key}"),))) == ""
    assert key_doubt(KNOWN) == ""
    assert key_doubt(VLLM_MLX) == ""
    for host in ("", "127.0.0.2", "::1"):
        assert key_doubt(replace(OURS, host=host)) == ""
