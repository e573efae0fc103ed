"""Servers of another program than vllm-mlx, confined if the configuration says so."""

from pathlib import Path

import pytest

from pool_service.adapters.children.confinement import call_filter, landlock
from pool_service_client import PoolClient, RuntimeUnavailable, Server
from tests.service.conftest import FAKE_RUNTIME, Start

pytestmark = pytest.mark.skipif(
    bool(landlock.flaw() or call_filter.machine_flaw()),
    reason="needs Landlock, and Linux on x86_64 or aarch64",
)


def is_confined(server: Server) -> bool:
    status = Path(f"/proc/{server.pid}/status").read_text()
    return "\nSeccomp:\t2\n" in status


def told(pool: PoolClient, model: str) -> tuple[str, str, str]:
    settings = {one.key: one for one in pool.describe(model).settings}
    row = settings["sandbox"]
    return row.value, row.source, row.running


def test_another_program_is_confined_only_if_the_configuration_says_so(
    start: Start, tmp_path: Path
) -> None:
    service = start(FAKE_RUNTIME)
    with PoolClient.connect(service.address) as pool:
        free = pool.ensure("m").server
        assert not is_confined(free)
        value, source, running = told(pool, "m")
        assert value.startswith("not confined: other programs than vllm-mlx")
        assert (source, running) == ("default", "")
        (tmp_path / "state.toml").write_text(f'{FAKE_RUNTIME}sandbox = "on"\n')
        reloaded = pool.reload()
        assert list(reloaded.replaced) == ["m"]
        assert told(pool, "m") == ("confined", "[runtime]", "not confined")
        pool.evict("m")
        assert is_confined(pool.ensure("m").server)
        assert told(pool, "m") == ("confined", "[runtime]", "")
    assert service.stop() == 0


def test_a_program_that_has_to_be_confined_and_cannot_be_is_not_started(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All modules of the service's interpreter are in there.
    monkeypatch.setenv("HOME", str(Path(landlock.__file__).parents[1]))
    service = start(f'{FAKE_RUNTIME}sandbox = "on"\n')
    with (
        PoolClient.connect(service.address) as pool,
        pytest.raises(RuntimeUnavailable, match="cannot be confined: Python modules are imported"),
    ):
        pool.ensure("m")
