"""Claims about offers: what an Ensure would do, without doing it, in virtual time."""

import asyncio
from dataclasses import replace

import pytest

from pool_service.core.errors import CodeNotTrusted, PoolError
from pool_service.core.offer import Offer, OfferVerdict
from pool_service.core.sampler import FRESH_S
from pool_service.core.server import Phase
from pool_service.core.types import FOREVER, Account
from pool_service.offers import SAMPLE_TIMEOUT_S
from tests.pool.capacity import fill, room, sized
from tests.pool.running import DEFAULTS, LIMITS, Running, now, running
from tests.world import NEVER, Script

pytestmark = pytest.mark.looptime


def samples(run: Running) -> int:
    """Return how often the memory has been sampled."""
    return len(run.world.times("sample"))


async def refused(run: Running, model: str = "m", account: Account | None = None) -> Offer:
    """Return the offer of what an Ensure is refused, with the very error of the Ensure."""
    offer = await run.pool.offer(model, account=account)
    assert offer.verdict is OfferVerdict.NEVER
    assert offer.error is not None
    with pytest.raises(PoolError) as raised:
        await run.pool.ensure(model, account=account)
    assert (raised.value.reason, raised.value.message) == (offer.error.reason, offer.error.message)
    return offer


async def test_an_offer_starts_downloads_and_uses_nothing() -> None:
    async with running() as run:
        run.world.script("missing", Script(on_disk=False))
        await run.pool.ensure("ready")
        await asyncio.sleep(5)
        before, revision = run.server("ready"), run.pool.history.revision
        for model in ("ready", "new", "missing"):
            assert (await run.pool.offer(model, download=True)).revision == revision
        assert run.pool.page(None, 10) == [before]
        assert (run.world.times("fetch"), len(run.world.times("spawn"))) == ([], 1)
        assert run.pool.history.revision == revision


async def test_it_says_what_the_ensure_then_does() -> None:
    async with room() as run:
        await fill(run, "old")
        run.world.script("m", sized(5))
        assert (await run.pool.offer("m")).verdict is OfferVerdict.FITS
        await run.pool.ensure("m")
        assert (await run.pool.offer("m")).verdict is OfferVerdict.WARM
        run.world.script("next", sized(4))
        offer = await run.pool.offer("next")
        assert (offer.verdict, offer.evicted, offer.evictable) == (OfferVerdict.EVICTS, 5, 10)
        await run.pool.ensure("next")
        assert len(run.pool.page(None, 10)) == 2


async def test_what_would_wait_is_offered_to_wait_and_waits() -> None:
    async with room() as run:
        run.world.script("busy", sized(8, requests=1))
        await run.pool.ensure("busy")
        run.world.script("m", sized(5))
        call = run.ensure("m")
        await asyncio.sleep(5)
        assert run.phase("m") is Phase.QUEUED
        offer = await run.pool.offer("other")
        assert offer.queued == 1
        run.world.script("third", sized(5))
        assert (await run.pool.offer("third")).verdict is OfferVerdict.WAITS
        run.world.of("busy").script.requests = 0
        await call


async def test_what_was_learnt_of_earlier_loads_is_offered() -> None:
    async with running() as run:
        run.world.script("m", Script(load=4.0, needs=7, takes=7))
        await run.pool.ensure("m")
        await run.pool.evict("m")
        offer = await run.pool.offer("m")
        assert (offer.on_disk, offer.needed) == (True, 7)
        assert offer.usual_load_s == pytest.approx(4.0, abs=0.1)


async def test_refusals_are_those_of_the_ensure() -> None:
    async with room(only_listed=False) as run:
        run.world.script("large", Script(needs=11))
        run.world.script("missing", Script(on_disk=False))
        untrusted = CodeNotTrusted("it brings code", model="untrusted")
        run.world.script("untrusted", Script(raises={"estimate": untrusted}))
        run.world.script("m", Script(needs=6))
        assert (await refused(run, "large")).needed == 11
        assert (await refused(run, "missing")).on_disk is False
        await refused(run, "untrusted")
        await refused(run, "m", Account("engine", 0.5))
        # Remembered: it is refused at once now.
        assert (await run.pool.offer("untrusted")).error is untrusted


async def test_a_model_that_is_not_listed_is_refused_as_by_the_ensure() -> None:
    listed = {"listed": replace(DEFAULTS, runtime_model="org/listed")}
    async with running(models=listed, only_listed=True) as run:
        offer = await refused(run, "m")
        assert not offer.listed
        offer = await run.pool.offer("listed")
        assert (offer.runtime_model, offer.listed) == ("org/listed", True)


async def test_a_pool_without_servers_offers_by_the_memory_of_now() -> None:
    """It takes no samples by itself, so that its last one is of an hour ago."""
    async with running(limits=replace(LIMITS, memory_budget=FOREVER)) as run:
        run.world.memory = 100
        run.world.script("m", sized(60))
        assert (await run.pool.offer("m")).free == 100
        await run.pool.ensure("m")
        await run.pool.evict("m")
        await asyncio.sleep(3600)
        run.world.others = 70
        offer = await run.pool.offer("m")
        assert (offer.verdict, offer.free) == (OfferVerdict.WAITS, 30)


async def test_offers_at_once_share_a_sample_and_later_ones_take_another() -> None:
    async with running() as run:
        run.world.look = SAMPLE_TIMEOUT_S / 2
        before = samples(run)
        await asyncio.gather(*(run.pool.offer(f"m{number}") for number in range(20)))
        await run.pool.offer("m")
        assert samples(run) - before == 1
        await asyncio.sleep(FRESH_S + SAMPLE_TIMEOUT_S)
        await run.pool.offer("m")
        assert samples(run) - before == 2


async def test_a_fresh_sample_of_the_pool_itself_is_enough() -> None:
    async with running() as run:
        await run.pool.ensure("other")
        await asyncio.sleep(1)
        run.ask("starting")
        await asyncio.sleep(0.1)
        before = samples(run)
        await run.pool.offer("m")
        assert samples(run) == before


async def test_a_slow_sample_is_not_waited_for_and_serves_later_offers() -> None:
    async with running(limits=replace(LIMITS, memory_budget=FOREVER)) as run:
        run.world.look, run.world.memory = 0.5, 100
        began = now()
        assert (await run.pool.offer("m")).free is None
        assert now() - began == pytest.approx(SAMPLE_TIMEOUT_S)
        await asyncio.sleep(0.45)
        assert (await run.pool.offer("m")).free == 100
        assert samples(run) == 1


async def test_memory_that_cannot_be_sampled_costs_no_offer() -> None:
    async with running() as run:
        run.world.blind = OSError("no memory")
        assert (await run.pool.offer("m")).verdict is OfferVerdict.FITS


async def test_who_gives_up_takes_the_sample_from_nobody() -> None:
    async with running() as run:
        run.world.look = SAMPLE_TIMEOUT_S / 2
        first = asyncio.create_task(run.pool.offer("m"))
        second = asyncio.create_task(run.pool.offer("n"))
        await asyncio.sleep(SAMPLE_TIMEOUT_S / 4)
        first.cancel()
        assert (await second).verdict is OfferVerdict.FITS
        assert samples(run) == 1


async def test_a_model_that_comes_while_its_files_are_looked_at_is_offered_as_warm() -> None:
    async with running() as run:
        run.world.script("m", Script(estimate=2.0))
        asking = asyncio.create_task(run.pool.offer("m"))
        await asyncio.sleep(1)
        run.ask("m")
        assert (await asking).verdict is OfferVerdict.WARM


async def test_a_pool_that_shuts_down_offers_nothing() -> None:
    async with running() as run:
        run.world.script("m", Script(requests=1, load=NEVER))
        run.ask("m")
        await asyncio.sleep(1)
        ending = asyncio.create_task(run.pool.shutdown())
        await asyncio.sleep(0)
        offer = await run.pool.offer("new")
        assert offer.verdict is OfferVerdict.NEVER
        assert offer.error is not None
        assert offer.error.reason == "SHUTTING_DOWN"
        await ending
