"""The state directory fails, or what is in it: the service goes on from memory and says so."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from pool_service.adapters.records.record_files import file_name
from pool_service.adapters.records.record_format import VERSION
from pool_service.rpc.server import RECORDS
from pool_service.v1 import pool_service_pb2 as pb
from pool_service.v1.pool_service_pb2_grpc import PoolServiceStub
from pool_service_client import RetryPolicy, ServerRole, StartFailed
from tests.faults.lives import Lives, Stream, fake_lives, same_process, settled
from tests.faults.table import Recovery
from tools.demo.service import RunningService

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="mounts a file system"
)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Lives]:
    with fake_lives(tmp_path) as lives:
        yield lives


@contextmanager
def health_of_records(service: RunningService) -> Iterator[Iterator[int]]:
    """What health says of the records: now, then each change."""
    with grpc.insecure_channel(service.address) as channel:
        request = health_pb2.HealthCheckRequest(service=RECORDS)
        call = health_pb2_grpc.HealthStub(channel).Watch(request)  # type: ignore[attr-defined]
        yield (response.status for response in call)
        call.cancel()


def notices(service: RunningService) -> list[str]:
    """What List says that the service cannot do at present."""
    with grpc.insecure_channel(service.address) as channel:
        return list(PoolServiceStub(channel).List(pb.ListRequest()).notices)


def told_until_it_is_over(
    lives: Lives, fault: Callable[[], None], cure: Callable[[], None], said: str
) -> None:
    """While the disk fails calls go on, health and List and the log say so; then all is kept."""
    with lives.pool() as pool, health_of_records(lives.now) as statuses:
        server = pool.ensure("before").server
        assert next(statuses) == SERVING
        fault()
        # A change that has to be written.
        pool.ensure("before", keep_alive=100)
        assert next(statuses) == NOT_SERVING
        (notice,) = notices(lives.now)
        assert said in notice
        assert str(lives.state_dir) in notice
        lives.await_logged(said)
        assert same_process(pool.ensure("before").server, server)
        cure()
        assert next(statuses) == SERVING
        assert notices(lives.now) == []
        lives.kill()
        lives.start()
        assert same_process(settled(pool)["before"], server)
        assert pool.ensure("after").started


@pytest.mark.fault("state directory removed")
def test_a_state_directory_that_was_removed_is_made_again_with_all_that_is_known(
    fake: Lives, recovered: Recovery
) -> None:
    fake.start()
    with fake.pool() as pool:
        server = pool.ensure("before").server
        record = fake.state_dir / "servers" / file_name("before")
        # Moved: while it is removed file by file, a file may be written.
        (fake.state_dir / "servers").rename(fake.root / "removed")
        with recovered.measured():
            pool.ensure("another")
            assert record.exists()
        fake.kill()
        fake.start()
        assert same_process(settled(pool)["before"], server)


@pytest.mark.fault("state directory removed")
def test_without_any_state_directory_running_servers_are_handed_out_and_new_ones_start(
    fake: Lives,
) -> None:
    fake.start()
    with fake.pool() as pool:
        server = pool.ensure("before").server
        fake.state_dir.rename(fake.root / "removed")
        assert same_process(pool.ensure("before").server, server)
        assert pool.ensure("after").server.generation == 1
        assert len(pool.evict("before")) == 1
        assert set(settled(pool)) == {"after"}


@pytest.mark.fault("state directory read-only")
@needs_root
def test_a_read_only_state_directory_is_reported_until_it_is_not(fake: Lives) -> None:
    fake.start()
    servers = fake.state_dir / "servers"
    told_until_it_is_over(
        fake,
        # Another over it: one in which files are open for writing cannot be made read-only.
        lambda: mount(servers, "ro"),
        lambda: unmount(servers),
        "Read-only file system",
    )


@pytest.mark.fault("state directory full")
@needs_root
def test_a_full_state_directory_is_reported_until_there_is_space(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "size=16m"), fake_lives(tmp_path) as fake:
        fake.start()
        ballast = fake.state_dir / "ballast"
        told_until_it_is_over(
            fake, lambda: fill(ballast), ballast.unlink, "No space left on device"
        )


@pytest.mark.fault("state directory full")
@needs_root
def test_a_start_without_space_for_a_log_is_refused_with_the_cause(tmp_path: Path) -> None:
    with mounted(tmp_path / "state", "size=16m,nr_inodes=64"), fake_lives(tmp_path) as fake:
        fake.start()
        with fake.pool(RetryPolicy(patience=0)) as pool:
            server = pool.ensure("before").server
            names = [fake.state_dir / f"ballast-{number}" for number in range(64)]
            exhaust(names)
            with pytest.raises(StartFailed, match=r"No space left on device.*free some space"):
                pool.ensure("after")
            assert same_process(pool.ensure("before").server, server)
            for name in names:
                name.unlink(missing_ok=True)
        with fake.pool() as pool:
            assert pool.ensure("after").started


@pytest.mark.fault("`kill -9` on a full, or read-only, state directory")
@needs_root
@pytest.mark.parametrize("harm", ["no room", "no files", "read-only"])
def test_on_a_disk_that_takes_nothing_the_next_service_adopts_serves_and_says_so(
    tmp_path: Path, harm: str
) -> None:
    state_dir = tmp_path / "state"
    disk, undo = mounted(state_dir, "size=16m,nr_inodes=64"), ExitStack()
    with disk, undo, fake_lives(tmp_path) as fake:
        fake.start()
        with fake.pool() as pool:
            server = pool.ensure("before").server
            fake.await_record_of(server.pid or 0)
            fake.kill()
            if harm == "no files":
                exhaust([state_dir / f"ballast-{number}" for number in range(64)])
            elif harm == "no room":
                fill(state_dir / "ballast")
            else:
                mount_read_only(state_dir)
                undo.callback(unmount, state_dir)
            fake.start()
            assert same_process(pool.ensure("before").server, server)
            assert fake.servers() == {server.pid}
            with health_of_records(fake.now) as statuses:
                while next(statuses) != NOT_SERVING:
                    pass
            assert str(fake.state_dir) in notices(fake.now)[0]


def mount_read_only(path: Path) -> None:
    """The same directory over itself: one in which files are open cannot be made read-only."""
    subprocess.run(["mount", "--bind", str(path), str(path)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A file system of its own; let go of when all that used it has ended."""
    path.mkdir(mode=0o700)
    mount(path, options)
    try:
        yield
    finally:
        unmount(path)


def mount(path: Path, options: str) -> None:
    options = f"{options},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], check=True)


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Until not a byte is left."""
    with path.open("wb", buffering=0) as file:
        for size in (65536, 1):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                continue


def exhaust(names: list[Path]) -> None:
    """Until not a file more can be made."""
    for name in names:
        try:
            name.touch()
        except OSError:
            return


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def garble(path: Path) -> None:
    path.write_bytes(b"\x00\xff no record")


def of_a_later_version(path: Path) -> None:
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"version": VERSION + 1}))


def of_another(path: Path) -> None:
    os.chown(path, 12345, 12345)


def link(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.fault("record truncated, garbage, of a later version, owned by another, a symlink")
@pytest.mark.parametrize("damage", [truncate, garble, of_a_later_version, of_another, link])
def test_a_damaged_record_is_set_aside_its_process_drained_and_the_others_adopted(
    fake: Lives, damage: Callable[[Path], None], tmp_path: Path
) -> None:
    if damage is of_another and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    listed = tmp_path / "listed"
    fake.start()
    with fake.pool() as pool:
        whole = pool.ensure("whole").server
        lost = pool.ensure("lost", runtime_model=f"x?delay=0.02&answers_until={listed}").server
        stream = Stream(lost, 150)
        fake.kill()
        damage(fake.state_dir / "servers" / file_name("lost"))
        fake.start()
        with fake.pool() as fresh:
            orphan, adopted = fresh.list()
        assert (orphan.model, orphan.role) == ("", ServerRole.ORPHAN)
        assert (orphan.pid, orphan.generation) == (lost.pid, lost.pid)
        assert same_process(adopted, whole)
        listed.touch()
        assert stream.is_complete()
        assert set(settled(pool)) == {"whole"}
        assert fake.servers() == {whole.pid}
        assert list((fake.state_dir / "servers" / "damaged").iterdir())
        fake.await_logged(file_name("lost"))


@pytest.mark.fault("descriptors run out")
@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit of a running process")
def test_without_descriptors_open_channels_are_served_and_ensure_says_so(fake: Lives) -> None:
    if sys.platform != "linux":  # for mypy: the mark skips it
        return
    service = fake.start()
    process = psutil.Process(service.process.pid)
    with fake.pool(RetryPolicy(patience=0)) as pool, pool.watch() as events:
        server = pool.ensure("before").server
        next(events)
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() - 4, before[1]))
        with pytest.raises(StartFailed, match=r"Too many open files.*ulimit -n"):
            pool.ensure("after")
        assert same_process(pool.ensure("before").server, server)
        assert [one.model for one in pool.list()] == ["before"]
        process.rlimit(psutil.RLIMIT_NOFILE, before)
    with fake.pool() as pool:
        assert pool.ensure("after").started
        assert pool.ensure("another").started
