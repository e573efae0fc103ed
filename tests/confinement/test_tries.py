"""Hostile code in a confined server does no harm, and each layer of the confinement counts.

The same tries run without confinement, with each layer alone, and with both. So a try that proves
nothing, and a layer that does nothing, are seen.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pool_service.adapters import children
from pool_service.adapters.children.confinement import call_filter, landlock
from pool_service.adapters.sockets.free_ports import FreePorts
from tests.confinement import tries
from tests.confinement.scene import SECRET, TRIES

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        bool(landlock.flaw() or call_filter.machine_flaw()),
        reason="needs Landlock, and Linux on x86_64 or aarch64",
    ),
]

LANDLOCK_ALONE = frozenset({"landlock"})
FILTER_ALONE = frozenset({"filter"})
EACH = LANDLOCK_ALONE | FILTER_ALONE

STOPPED_BY = {
    "read_a_private_key": LANDLOCK_ALONE,
    "read_the_tokens_of_callers": LANDLOCK_ALONE,
    "read_a_record": LANDLOCK_ALONE,
    "read_the_log_of_another_model": LANDLOCK_ALONE,
    "read_another_model": LANDLOCK_ALONE,
    "list_the_home": LANDLOCK_ALONE,
    "list_the_state_directory": LANDLOCK_ALONE,
    "read_by_a_relative_path": LANDLOCK_ALONE,
    "read_through_the_root_of_proc": LANDLOCK_ALONE,
    "read_through_a_link_of_its_own": LANDLOCK_ALONE,
    "read_through_a_hard_link_of_its_own": LANDLOCK_ALONE,
    "read_by_a_helper_program": LANDLOCK_ALONE,
    "read_in_a_thread": LANDLOCK_ALONE,
    "read_by_a_handle": EACH,
    "watch_the_home": FILTER_ALONE,
    "append_to_a_profile": LANDLOCK_ALONE,
    "make_a_file_in_the_home": LANDLOCK_ALONE,
    "make_a_file_in_a_temporary_directory": LANDLOCK_ALONE,
    "make_a_directory": LANDLOCK_ALONE,
    "make_a_link": LANDLOCK_ALONE,
    "make_a_pipe": LANDLOCK_ALONE,
    "remove_a_file": LANDLOCK_ALONE,
    "remove_a_directory": LANDLOCK_ALONE,
    "rename_a_file": LANDLOCK_ALONE,
    "rename_its_own_file_over_another": LANDLOCK_ALONE,
    "move_a_file_to_itself": LANDLOCK_ALONE,
    "truncate_a_file": EACH,
    "truncate_a_file_that_is_opened_for_nothing": EACH,
    "truncate_its_own_model_by_opening_it_to_read": EACH,
    "keep_others_from_opening_a_file": FILTER_ALONE,
    "keep_others_from_changing_its_own_model": FILTER_ALONE,
    "set_a_flag_of_its_own_model": FILTER_ALONE,
    "change_its_own_model": LANDLOCK_ALONE,
    "change_its_own_model_in_place": LANDLOCK_ALONE,
    "change_its_own_model_through_a_hard_link": LANDLOCK_ALONE,
    "truncate_its_own_model": EACH,
    "let_others_read_a_key": FILTER_ALONE,
    "let_others_change_its_model_by_a_descriptor": FILTER_ALONE,
    "change_a_time": FILTER_ALONE,
    "set_an_attribute": FILTER_ALONE,
    "mislead_the_service_by_a_link": LANDLOCK_ALONE,
    "stop_the_service_at_a_pipe": LANDLOCK_ALONE,
    "share_memory_by_a_file": LANDLOCK_ALONE,
    "run_a_program_that_it_has_written": LANDLOCK_ALONE,
    "connect_by_tcp": EACH,
    "connect_by_tcp_through_ipv6": EACH,
    "connect_by_sending": FILTER_ALONE,
    "connect_by_sending_a_message": FILTER_ALONE,
    "connect_by_a_helper_program": EACH,
    "send_by_udp": FILTER_ALONE,
    "connect_to_the_socket_of_the_service": FILTER_ALONE,
    "send_to_a_socket_by_its_path": FILTER_ALONE,
    "send_to_a_socket_from_a_pair": FILTER_ALONE,
    "connect_to_an_abstract_socket": EACH,
    "listen_on_another_port": LANDLOCK_ALONE,
    "talk_to_the_kernel_by_netlink": FILTER_ALONE,
    "signal_the_service": EACH,
    "signal_a_thread_of_the_service": EACH,
    "signal_by_a_thread_id": EACH,
    "signal_by_a_descriptor": EACH,
    "signal_with_a_value": EACH,
    "signal_by_an_event": EACH,
    "signal_by_a_helper_program": EACH,
    "read_the_variables_of_the_service": LANDLOCK_ALONE,
    "read_the_command_line_of_the_service": LANDLOCK_ALONE,
    "read_the_memory_of_the_service": LANDLOCK_ALONE,
    "copy_the_memory_of_the_service": EACH,
    "trace_the_service": EACH,
    "take_a_descriptor_of_the_service": EACH,
    "open_a_descriptor_of_the_service": LANDLOCK_ALONE,
    "limit_the_service": FILTER_ALONE,
    "lower_the_priority_of_the_service": FILTER_ALONE,
    "take_a_processor_from_the_service": FILTER_ALONE,
    "attach_shared_memory": FILTER_ALONE,
    "leave_the_session": FILTER_ALONE,
    "leave_the_group": FILTER_ALONE,
    "become_a_child_of_the_service": FILTER_ALONE,
    "hide_from_the_service": FILTER_ALONE,
    "use_io_uring": FILTER_ALONE,
}
"""The layers that stop each try, by the newest Landlock that these tests know."""

OFTEN_FORBIDDEN = {
    # To all but root, by Yama or without a capability; or to all, by the settings of the kernel or
    # of a container.
    *("read_by_a_handle", "read_the_memory_of_the_service", "copy_the_memory_of_the_service"),
    *("trace_the_service", "take_a_descriptor_of_the_service", "use_io_uring"),
    *("take_a_processor_from_the_service", "set_an_attribute", "connect_by_sending"),
    *("connect_by_sending_a_message", "set_a_flag_of_its_own_model"),
}
"""Tries that fail on some machines without any confinement."""

FIRST_ABI = {"listen_on_another_port": landlock.NET_ABI}
"""The first ABI of Landlock with which a try is stopped, if not 1."""

ALONE_FROM_ABI = {
    **dict.fromkeys([name for name in TRIES if name.startswith("truncate")], 3),
    **dict.fromkeys(("connect_by_tcp", "connect_by_tcp_through_ipv6", "listen_on_another_port"), 4),
    "connect_by_a_helper_program": 4,
    **{name: 6 for name in TRIES if name.startswith("signal")},
    "connect_to_an_abstract_socket": 6,
}
"""The first ABI of Landlock that stops a try without the filter, if not 1."""


@functools.cache
def did_harm(layers: str) -> dict[str, bool]:
    """Run all tries in a server with these layers; return which of them did harm."""
    module = tries.__name__
    command = [sys.executable, "-S", "-m", module, str(Path(children.__file__).parent), layers]
    variables = {"A_SECRET": SECRET.decode(), "FREE_PORT": str(FreePorts().reserve())}
    result = subprocess.run(
        command,
        env=os.environ | variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    harm: dict[str, bool] = json.loads(result.stdout)["harm"]
    return harm


def test_each_try_has_a_layer_that_stops_it() -> None:
    assert STOPPED_BY.keys() == TRIES.keys()


@pytest.mark.parametrize("name", TRIES)
def test_without_confinement_it_does_harm(name: str) -> None:
    if not did_harm("none")[name] and name in OFTEN_FORBIDDEN:
        pytest.skip("this machine forbids it to all programs of this user")
    assert did_harm("none")[name]


@pytest.mark.parametrize("name", TRIES)
def test_confined_it_does_no_harm(name: str) -> None:
    assert not did_harm("both")[name]


@pytest.mark.parametrize("name", TRIES)
@pytest.mark.parametrize("layer", ["landlock", "filter"])
def test_a_layer_alone_stops_what_it_is_there_for(layer: str, name: str) -> None:
    stopped = not did_harm(layer)[name]
    if not did_harm("none")[name]:
        assert stopped
    elif layer == "landlock" and landlock.abi() < ALONE_FROM_ABI.get(name, 1):
        assert not stopped
    else:
        assert stopped == (layer in STOPPED_BY[name])


@pytest.mark.parametrize("version", range(1, 7))
def test_with_an_older_landlock_the_filter_stops_the_rest(version: int) -> None:
    if version > landlock.abi():
        pytest.skip("this kernel has an older one")
    harmful = {name for name, harm in did_harm(f"both:{version}").items() if harm}
    assert harmful == {name for name, first in FIRST_ABI.items() if version < first}
