"""The answers to callers of a service that ends, to the frame."""

import signal

import pytest

from tests.http2.peer import Peer, ensure_frames
from tests.service.conftest import FAKE_RUNTIME, Start

CALLS = 200
OK, UNAVAILABLE = "0", "14"


@pytest.mark.parametrize("kept", ["false", "true"])
def test_none_of_many_calls_at_the_end_is_dropped_without_a_word(start: Start, kept: str) -> None:
    """Send calls that have arrived when the service ends; gRPC begins one after the other.

    The service is suspended while they are sent, and what a peer has sent on this machine is
    there: none arrives after the service's end, as those of a library may.
    """
    service = start(f"service.keep_servers = {kept}\n{FAKE_RUNTIME}")
    first, *streams = range(1, 2 * CALLS, 2)
    with Peer(service.address, deaf=True) as peer:
        peer.send(ensure_frames(first, "m"))
        assert peer.statuses([first]) == {first: (OK, "")}
        service.process.send_signal(signal.SIGSTOP)
        peer.send(b"".join(ensure_frames(stream, "m") for stream in streams))
        service.process.terminate()
        service.process.send_signal(signal.SIGCONT)
        statuses = peer.statuses(streams)
    refused = [(code, why) for code, why in statuses.values() if code != OK]
    assert {code for code, _ in refused} == {UNAVAILABLE}
    assert all("the service is shutting down" in why for _, why in refused)
    assert service.process.wait(60) == 0
    start()  # which ends what was left
