"""The highest epoch counts: a front that another has followed is refused, also after a restart."""

from pathlib import Path

import pytest

from pool_service.access.fence import MAX_EPOCH, REWRITE_AFTER_S, Fence, Leader
from pool_service.adapters.records.leader_file import FILE_NAME, LeaderFile
from pool_service.core.errors import StaleFleet


class Disk:
    """What was written, and the time."""

    def __init__(self) -> None:
        self.written: list[Leader] = []
        self.why = ""
        self.now = 100.0

    def write(self, leader: Leader) -> str:
        self.written.append(leader)
        return self.why

    def fence(self, last: Leader | None = None) -> Fence:
        return Fence(last or Leader(), self.write, lambda: self.now)


def test_a_higher_epoch_is_written_and_a_lower_one_refused_from_then_on() -> None:
    disk = Disk()
    fence = disk.fence()
    fence.admit(7, "a")
    fence.admit(7, "a")
    fence.admit(9, "b")
    assert disk.written == [Leader(7, "a"), Leader(9, "b")]
    with pytest.raises(StaleFleet, match="epoch 9 leads") as stale:
        fence.admit(7, "a")
    assert (stale.value.epoch, stale.value.front) == (9, "b")
    assert fence.leader == Leader(9, "b")


def test_what_was_seen_before_a_restart_counts() -> None:
    with pytest.raises(StaleFleet):
        Disk().fence(Leader(9, "b")).admit(8, "a")


def test_a_follower_without_an_epoch_is_neither_refused_nor_the_leader() -> None:
    disk = Disk()
    fence = disk.fence(Leader(9, "b"))
    fence.admit(0, "c", leads=True)
    assert (fence.leader, fence.heard_s, disk.written) == (Leader(9, "b"), None, [])


def test_the_leader_is_named_by_its_beat_if_a_follower_has_brought_its_epoch() -> None:
    disk = Disk()
    fence = disk.fence()
    fence.admit(7, "follower")
    fence.admit(7, "leader", leads=True)
    fence.admit(7, "follower")
    assert fence.leader == Leader(7, "leader")
    assert len(disk.written) == 1


def test_only_calls_of_the_leader_are_its_calls() -> None:
    disk = Disk()
    fence = disk.fence(Leader(7, "a"))
    heard = [fence.heard_s]
    fence.admit(7, "a", leads=True)
    disk.now += 3.0
    fence.admit(7, "follower")
    heard.append(fence.heard_s)
    fence.admit(8, "b", leads=True)
    assert [*heard, fence.heard_s] == [None, 3.0, 0.0]


def test_on_a_full_disk_a_new_leader_is_obeyed_and_the_fence_holds_in_memory() -> None:
    disk = Disk()
    disk.why = "the disk is full"
    fence = disk.fence()
    fence.admit(7, "a")
    notices = [fence.notice]
    with pytest.raises(StaleFleet):
        fence.admit(6, "b")
    fence.admit(7, "a")
    assert len(disk.written) == 1, "each write holds up all calls"
    disk.now, disk.why = disk.now + REWRITE_AFTER_S, ""
    fence.admit(7, "a")
    assert [*notices, fence.notice] == ["the disk is full", ""]
    assert disk.written == [Leader(7, "a")] * 2


# --- the file -----------------------------------------------------------------------------


def test_the_file_has_what_was_written_last(tmp_path: Path) -> None:
    file = LeaderFile(tmp_path)
    assert file.read() == Leader()
    assert file.write(Leader(7, "a")) == ""
    assert file.write(Leader(MAX_EPOCH, "front ü")) == ""
    assert LeaderFile(tmp_path).read() == Leader(MAX_EPOCH, "front ü")
    assert [one.name for one in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"epoch": -1, "front": "a"}',
        b'{"epoch": true, "front": "a"}',
        b'{"epoch": 7.5, "front": "a"}',
        b'{"epoch": 7}',
        b'{"epoch": 4611686018427387905, "front": "a"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_as_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    file = LeaderFile(tmp_path)
    assert file.read() == Leader()
    assert file.write(Leader(7, "a")) == ""
    assert file.read() == Leader(7, "a")


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text('{"epoch": 7, "front": "a"}')
    (tmp_path / FILE_NAME).symlink_to(other)
    file = LeaderFile(tmp_path)
    assert file.read() == Leader()
    assert file.write(Leader(8, "b")) == ""
    assert "7" in other.read_text()
    assert file.read() == Leader(8, "b")


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    why = LeaderFile(tmp_path / "none").write(Leader(7, "a"))
    assert "in memory only" in why
    assert str(tmp_path) in why
