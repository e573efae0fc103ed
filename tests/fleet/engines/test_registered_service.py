"""A whole service that registers itself in a real etcd, and tells when it cannot."""

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pool_service.config import load
from pool_service.doctor import Finding, Verdict
from pool_service.doctor.installation import registration_findings
from pool_service_client import PoolClient
from tests.fleet.engines.etcd_process import EtcdProcess, coded
from tools.bench.turns import free_ports
from tools.demo.service import RunningService, command, running

pytestmark = pytest.mark.process

LIMIT_S = 60.0
KEY = "fleets/test/members/one"


def configured(directory: Path, etcd: EtcdProcess, more: str = "") -> tuple[Path, str]:
    """Write the configuration of a member; return it, and the address with which it registers."""
    address = f"127.0.0.1:{free_ports(1)}"
    file = directory / "pool.toml"
    file.write_text(
        f"[service]\nstandby = 0\nlisten = ['{address}']\n"
        f"[fleet]\nname = 'one'\nregistry = 'etcd:{etcd.endpoint}/fleets/test'\n"
        f"registered_address = '{address}'\n{more}"
    )
    return file, address


@contextmanager
def member(file: Path, directory: Path, *arguments: str) -> Iterator[RunningService]:
    words = ("--config", str(file), *arguments)
    with running(directory / "state", (), words, log=directory / "service.log") as service:
        # Its address is that of the file.
        assert service.process.stdout is not None
        assert service.process.stdout.readline().startswith("listening on ")
        yield service


def registered(etcd: EtcdProcess) -> str:
    """Return the address with which etcd has the member; empty if it has none."""
    found = etcd.ask("kv/range", key=coded(KEY)).get("kvs")
    return base64.b64decode(found[0]["value"]).decode() if found else ""


def until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def notices(address: str) -> list[str]:
    with PoolClient.connect(address) as client:
        return list(next(client.pages(timeout=LIMIT_S)).notices)


def finding(file: Path) -> Finding:
    (only,) = registration_findings(load(file, {}, {}))
    return only


def test_a_service_is_registered_while_it_serves_and_no_longer_once_it_ends(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    file, address = configured(tmp_path, own_etcd)
    assert finding(file).verdict is Verdict.INFO
    with member(file, tmp_path) as service:
        until(lambda: registered(own_etcd) == address)
        until(lambda: notices(address) == [])
        assert finding(file).verdict is Verdict.OK
        assert service.stop() == 0
        # Its lease would have lived for seconds.
        assert registered(own_etcd) == ""


def test_a_service_serves_without_etcd_says_so_and_is_registered_once_etcd_is_back(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    file, address = configured(tmp_path, own_etcd)
    own_etcd.kill()
    with member(file, tmp_path) as service:
        until(lambda: any("it is not registered: no" in one for one in notices(address)))
        assert "registering one in the fleet" in service.log.read_text()
        found = finding(file)
        assert found.verdict is Verdict.WARNING
        assert own_etcd.endpoint in found.found
        own_etcd.start()
        until(lambda: registered(own_etcd) == address)
        until(lambda: notices(address) == [])


def test_a_service_that_is_replaced_stays_registered_all_the_time(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    file, address = configured(tmp_path, own_etcd)
    with member(file, tmp_path) as first:
        until(lambda: registered(own_etcd) == address)
        before = own_etcd.ask("kv/range", key=coded(KEY))["kvs"][0]
        with member(file, tmp_path, "--replace") as second:
            assert first.process.wait(LIMIT_S) == 0

            def is_taken_over() -> bool:
                after = own_etcd.ask("kv/range", key=coded(KEY))["kvs"][0]
                assert after["create_revision"] == before["create_revision"]
                return bool(after["lease"] != before["lease"])

            until(is_taken_over)
            assert second.stop() == 0
        assert registered(own_etcd) == ""


def test_a_service_with_a_name_that_is_taken_serves_and_says_so(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    file, address = configured(tmp_path, own_etcd)
    own_etcd.ask("kv/put", key=coded(KEY), value=coded("10.0.0.9:1"))
    with member(file, tmp_path):
        taken = "another member is registered as one, at 10.0.0.9:1"
        until(lambda: any(taken in one for one in notices(address)))
        found = finding(file)
        assert (found.verdict, "10.0.0.9:1" in found.found) == (Verdict.WARNING, True)
        own_etcd.delete(KEY)
        until(lambda: registered(own_etcd) == address)


def test_a_password_that_cannot_be_read_is_told_at_the_start(
    own_etcd: EtcdProcess, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    file, _ = configured(tmp_path, own_etcd, f"[etcd]\nuser = 'x'\npassword_file = '{nowhere}'\n")
    words = command("serve", "--config", str(file), "--state-dir", str(tmp_path / "state"))
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == 1
    assert f"etcd.password_file: cannot read {nowhere}" in done.stderr
    assert finding(file).verdict is Verdict.BROKEN


def test_a_service_that_registers_nowhere_imports_no_part_of_a_fleet(tmp_path: Path) -> None:
    file = tmp_path / "pool.toml"
    file.write_text("[fleet]\nname = 'one'\n")
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "import pool_service.app\n"
        "from pool_service.config import load\n"
        "from pool_service.registration import registrar_of\n"
        "registrar_of(load(Path(sys.argv[1]), {}, {}))\n"
        "print(json.dumps([one for one in sys.modules if one.startswith('pool_service.fleet')]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
