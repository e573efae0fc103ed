"""An etcd for the tests that need one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.fleet.engines.etcd_process import EtcdProcess, etcd
from tests.toolchain import needed


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    """Yield an etcd that the test may stop, pause and start."""
    needed("etcd")
    with etcd(tmp_path / "etcd") as process:
        yield process


@pytest.fixture
def secure_etcd(tmp_path: Path) -> Iterator[EtcdProcess]:
    """Yield an etcd with TLS, which asks for certificates."""
    needed("etcd")
    with etcd(tmp_path / "etcd", Authority("of etcd")) as process:
        yield process
