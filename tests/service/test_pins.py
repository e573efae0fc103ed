"""Pins by callers, with real processes: what stays, also when the service ends or is killed."""

from pathlib import Path

from pool_service_client import (
    ExitCause,
    Pinned,
    PoolClient,
    ServerRemoved,
    ServerState,
    Watch,
)
from tests.faults.lives import fake_lives, same_process
from tests.service.conftest import FAKE_RUNTIME, Start

CONFIG = "[defaults]\nkeep_alive = 0.3\ngrace_period = 0\n"


def until_idle_is_gone(pool: PoolClient, watch: Watch, model: str) -> None:
    """Start a model that nobody pinned, and return when it was stopped for being unused."""
    pool.ensure(model)
    gone = next(
        event.server
        for event in watch
        if isinstance(event, ServerRemoved) and event.server.model == model
    )
    assert gone.last_exit is not None
    assert gone.last_exit.cause is ExitCause.IDLE


def test_a_pinned_server_outlasts_its_keep_alive_and_the_pin_a_restart(start: Start) -> None:
    service = start(FAKE_RUNTIME + CONFIG)
    with PoolClient.connect(service.address) as pool, pool.watch() as watch:
        assert pool.pin("kept") == Pinned(pinned=True, changed=True, configured=False)
        before = pool.ensure("kept").server
        assert (before.pinned, before.expire_time) == (True, None)
        until_idle_is_gone(pool, watch, "idle")
        assert pool.evict_idle() == ()
        assert [(one.model, one.pid) for one in pool.list()] == [("kept", before.pid)]
    assert service.stop() == 0
    with PoolClient.connect(start(FAKE_RUNTIME + CONFIG).address) as pool, pool.watch() as watch:
        found = {one.model: (one.pinned, one.state) for one in pool.models(found=True)}
        assert found["kept"] == (True, None)
        pool.ensure("kept")
        until_idle_is_gone(pool, watch, "idle")
        (kept,) = pool.list()
        assert (kept.model, kept.state, kept.generation) == ("kept", ServerState.READY, 2)
        assert pool.pin("kept", pinned=False).changed
        gone = next(event.server for event in watch if isinstance(event, ServerRemoved))
        assert (gone.model, gone.pinned) == ("kept", False)


def test_a_pin_that_was_answered_is_kept_when_the_service_is_killed(tmp_path: Path) -> None:
    with fake_lives(tmp_path) as lives:
        lives.start()
        with lives.pool() as pool:
            server = pool.ensure("m").server
            lives.await_record_of(server.pid or 0)
            for pinned in (True, False, True):
                pool.pin("m", pinned=pinned)
                lives.kill()
                lives.start()
                again = pool.ensure("m").server
                assert same_process(again, server)
                assert (again.pinned, again.outdated) == (pinned, False)
            assert [one.server.model for one in pool.evict_all()] == ["m"]
            assert lives.servers() == set()
