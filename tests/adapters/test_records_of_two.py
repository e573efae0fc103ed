"""Records of what is beside a model's current server: a superseded server, an orphan."""

from dataclasses import replace

from pool_service.core.server import Phase, Role
from tests.adapters.disk import Disk
from tests.adapters.remembered import ready

FIRST, SECOND = ready("m"), ready("m", 2)
SUPERSEDED = replace(FIRST, role=Role.SUPERSEDED)


async def test_two_servers_of_a_model_are_both_known_each_in_its_role(disk: Disk) -> None:
    records = await disk.keeps(FIRST, SUPERSEDED, SECOND)
    assert set((await disk.loaded()).servers) == {SUPERSEDED, SECOND}
    records.remove(SUPERSEDED)
    await records.settled()
    known = await disk.loaded()
    assert (known.servers, known.pasts) == ((SECOND,), ())


async def test_a_superseded_server_that_nothing_followed_is_known_once_again(disk: Disk) -> None:
    failed = replace(FIRST, phase=Phase.FAILED)
    await disk.keeps(FIRST, SUPERSEDED, failed)
    assert (await disk.loaded()).servers == (failed,)


async def test_an_orphan_has_no_record(disk: Disk) -> None:
    await disk.keeps(replace(ready(""), role=Role.ORPHAN))
    assert (await disk.loaded()).servers == ()


async def test_a_start_that_had_not_begun_leaves_nothing(disk: Disk) -> None:
    queued = replace(FIRST, phase=Phase.QUEUED)
    records = await disk.keeps(queued)
    records.remove(queued)
    await records.settled()
    known = await disk.loaded()
    assert (known.servers, known.pasts) == ((), ())
