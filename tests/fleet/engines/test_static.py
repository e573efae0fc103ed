import math

from pool_service.fleet.engines.static import SoleLeadership, StaticMembership
from pool_service.fleet.ports import Lead
from tests.fleet.engines.told import Front, following, leads


async def test_members_of_the_configuration_are_there_at_once() -> None:
    with following(StaticMembership({"mac-1": "10.0.0.1:7070"})) as told:
        await told.until(lambda members: members == {"mac-1": "10.0.0.1:7070"})


async def test_each_follower_learns_members_that_a_reload_sets() -> None:
    membership = StaticMembership({"mac-1": "10.0.0.1:7070"})
    with following(membership) as one, following(membership) as other:
        await one.until(lambda members: len(members) == 1)
        await other.until(lambda members: len(members) == 1)
        membership.replace({"mac-2": "10.0.0.2:7070"})
        for told in (one, other):
            await told.until(lambda members: members == {"mac-2": "10.0.0.2:7070"})


async def test_a_reload_without_other_members_is_no_change() -> None:
    membership = StaticMembership({"mac-1": "10.0.0.1:7070"})
    with following(membership) as told:
        await told.until(lambda members: len(members) == 1)
        membership.replace({"mac-1": "10.0.0.1:7070"})
        membership.replace({})
        await told.until(lambda members: not members)
        assert len(told.all) == 2


async def test_a_sole_front_leads_for_ever_and_chooses_its_epoch_itself() -> None:
    front = Front(SoleLeadership("10.0.0.9:7070"))
    try:
        lead = await front.told.until(leads)
    finally:
        await front.end()
    assert lead == Lead(leads=True, epoch=0, address="10.0.0.9:7070", until=math.inf)
