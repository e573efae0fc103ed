"""Leadership by a Lease; with POOL_TESTS_KUBE_APISERVER by that of a real API server."""

import time
from contextlib import AsyncExitStack

import pytest

from pool_service.fleet.engines.kubernetes.errors import Absent
from pool_service.fleet.engines.kubernetes.lease import EPOCH
from tests.fleet.engines.kubernetes.api_server import LEASES, ApiServer, Kubectl
from tests.fleet.engines.kubernetes.fake_api_server import FakeApiServer
from tests.fleet.engines.kubernetes.fronts import LIFE_S, front
from tests.fleet.engines.told import LIMIT_S, events, leads, leads_not, logged

pytestmark = pytest.mark.process

LONG_S = 10 * int(LIMIT_S)
"""A life of a Lease that no test waits for."""


@pytest.fixture
async def lease(kubectl: Kubectl, request: pytest.FixtureRequest) -> str:
    """Return the name of a Lease of this test alone, which is not there yet."""
    name = str(request.node.name).split("[")[0].replace("_", "-")[:200].strip("-")
    await kubectl.delete_if_there(LEASES, name)
    return name


async def test_one_of_10_leads_and_all_others_know_it(server: ApiServer, lease: str) -> None:
    async with AsyncExitStack() as stack:
        fronts = [
            await stack.enter_async_context(front(server.access, lease, f"front-{number}"))
            for number in range(10)
        ]
        for one in fronts:
            await one.told.until(lambda lead: lead.address != "")
        (leader,) = (one for one in fronts if one.told.last.leads)
        known = {(one.told.last.epoch, one.told.last.address) for one in fronts}
        assert known == {(leader.told.last.epoch, leader.told.last.address)}


async def test_a_leader_that_ends_leaves_the_lead_at_once(server: ApiServer, lease: str) -> None:
    async with front(server.access, lease, "one", LONG_S) as one:
        first = await one.told.until(leads)
        async with front(server.access, lease, "other", LONG_S) as other:
            await other.told.until(lambda lead: lead.address == "one:1")
            await one.end()
            assert not one.told.last.leads
            second = await other.told.until(leads)
            assert second.epoch > first.epoch


async def test_a_leader_renews_its_lead_before_it_is_over(server: ApiServer, lease: str) -> None:
    async with front(server.access, lease, "one") as one:
        first = await one.told.until(leads)
        await one.told.until(lambda lead: lead.until > first.until + LIFE_S)
        assert all(lead.leads and lead.epoch == first.epoch for lead in one.told.all)


async def test_a_leader_steps_down_by_its_own_clock_when_the_api_server_hangs(
    server: ApiServer, lease: str
) -> None:
    async with front(server.access, lease, "one") as one:
        await one.told.until(leads)
        server.pause()
        stopped = time.monotonic()
        try:
            await one.told.until(leads_not)
            last = next(lead for lead in reversed(one.told.all) if lead.leads)
            assert last.until < stopped + LIFE_S
        finally:
            server.resume()
        again = await one.told.until(leads)
        assert again.epoch > last.epoch


async def test_somebody_leads_again_after_a_restart_of_the_api_server(
    server: ApiServer, lease: str
) -> None:
    async with (
        front(server.access, lease, "one") as one,
        front(server.access, lease, "other") as other,
    ):
        await one.told.until(lambda lead: lead.address != "")
        await other.told.until(lambda lead: lead.address != "")
        before = one.told.last.epoch
        leader = one if one.told.last.leads else other
        await server.kill()
        await leader.told.until(leads_not)
        await server.start()
        for each in (one, other):
            await each.told.until(lambda lead: lead.epoch > before)
        assert one.told.last.leads != other.told.last.leads


async def test_an_absence_that_is_shorter_than_the_lease_changes_no_leader(
    fake: FakeApiServer,
) -> None:
    async with front(fake.access, "lease", "one", 9) as one:
        first = await one.told.until(leads)
        await fake.kill()
        with logged() as logs:
            await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
            await fake.start()
            await one.told.until(lambda lead: lead.until > first.until)
        assert {lead.epoch for lead in one.told.all} == {first.epoch}


async def test_a_leader_whose_lease_somebody_deletes_leads_on_with_a_higher_epoch(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    async with front(server.access, lease, "one") as one:
        first = await one.told.until(leads)
        await kubectl.delete(f"{LEASES}/{lease}")
        second = await one.told.until(lambda lead: lead.leads and lead.epoch > first.epoch)
        between = one.told.all[one.told.all.index(first) : one.told.all.index(second)]
        assert any(not lead.leads for lead in between)


async def test_a_follower_waits_for_the_end_of_a_lease_that_has_vanished(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    async with front(server.access, lease, "one", LONG_S) as one:
        await one.told.until(leads)
        async with front(server.access, lease, "other", LONG_S) as other:
            await other.told.until(lambda lead: lead.address == "one:1")
            await kubectl.delete(f"{LEASES}/{lease}")
            # Twice, as the follower has then gone on from the first time that it found nothing.
            for _ in range(2):
                with logged() as logs:
                    await server.kill()
                    await logs.until(lambda entry: entry["event"] == "fleet_engine_failed")
                    await server.start()
                    await logs.until(lambda entry: entry["event"] == "fleet_engine_answers_again")
            with pytest.raises(Absent):
                await kubectl.get(f"{LEASES}/{lease}")


async def test_a_lease_that_is_made_anew_has_a_higher_epoch_for_whoever_leads(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    epochs = []
    for name in ("one", "other", "third"):
        async with front(server.access, lease, name) as one:
            epochs.append((await one.told.until(leads)).epoch)
        await kubectl.delete(f"{LEASES}/{lease}")
    assert epochs == sorted(set(epochs))


async def test_the_epoch_rises_although_an_api_server_has_lost_versions(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    async with front(server.access, lease, "one") as one:
        await one.told.until(leads)
    await kubectl.replace(
        f"{LEASES}/{lease}", metadata=await annotated(kubectl, lease, {EPOCH: str(10**12)})
    )
    async with front(server.access, lease, "other") as other:
        assert (await other.told.until(leads)).epoch == 10**12 + 1


async def test_what_others_write_into_a_lease_stays_and_ends_no_lead(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    async with front(server.access, lease, "one") as one:
        first = await one.told.until(leads)
        held = await kubectl.get(f"{LEASES}/{lease}")
        annotations = {**held["metadata"]["annotations"], "example.com/owner": "me"}
        await kubectl.replace(
            f"{LEASES}/{lease}", metadata=await annotated(kubectl, lease, annotations)
        )
        await one.told.until(lambda lead: lead.until > first.until + LIFE_S)
        assert {lead.epoch for lead in one.told.all} == {first.epoch}
    after = await kubectl.get(f"{LEASES}/{lease}")
    assert after["metadata"]["annotations"]["example.com/owner"] == "me"


async def test_people_see_who_leads_and_how_often_it_changed(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    for name, transitions in (("one", 1), ("other", 2)):
        async with front(server.access, lease, name) as one:
            await one.told.until(leads)
            spec = (await kubectl.get(f"{LEASES}/{lease}"))["spec"]
            assert spec["holderIdentity"] == f"{name}:1/{name}"
            assert spec["leaseDurationSeconds"] == LIFE_S
            assert spec["leaseTransitions"] == transitions
    assert not (await kubectl.get(f"{LEASES}/{lease}"))["spec"].get("holderIdentity")


async def test_a_lease_that_another_program_holds_is_waited_for(
    server: ApiServer, kubectl: Kubectl, lease: str
) -> None:
    spec = {"holderIdentity": "elsewhere:1/another", "leaseDurationSeconds": LONG_S}
    await kubectl.create(LEASES, {"metadata": {"name": lease}, "spec": spec})
    async with front(server.access, lease, "one") as one:
        lead = await one.told.until(leads_not)
        assert (lead.epoch, lead.address) == (0, "elsewhere:1")
        await kubectl.replace(f"{LEASES}/{lease}", spec={})
        await one.told.until(leads)


async def test_failures_of_the_api_server_are_logged_once(server: ApiServer, lease: str) -> None:
    async with front(server.access, lease, "one") as one:
        await one.told.until(leads)
        with logged() as logs:
            await server.kill()
            await one.told.until(leads_not)
            await server.start()
            await one.told.until(leads)
        assert events(logs) == ["fleet_engine_failed", "fleet_engine_answers_again"]


async def annotated(kubectl: Kubectl, lease: str, annotations: dict[str, str]) -> dict[str, object]:
    metadata = (await kubectl.get(f"{LEASES}/{lease}"))["metadata"]
    return {**metadata, "annotations": annotations}
