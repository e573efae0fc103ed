"""When the view asks the service for what: in virtual time, over a service of values."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from pool_service.cli.top.actions import Ensure, Evict
from pool_service.cli.top.controls import Controls
from pool_service.cli.top.picture import Picture
from pool_service.cli.top.session import Session
from pool_service_client import (
    AsyncPoolClient,
    DeadlineExceeded,
    Description,
    EnsureResult,
    Event,
    EvictedServer,
    Model,
    ModelUnknown,
    PoolError,
    PoolUnavailable,
    ServerInUse,
    Synced,
    convert,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.cli.top.making import changed, described, removed, server
from tests.client.scripted import ready

pytestmark = pytest.mark.looptime


class Pool:
    """Has these READY servers, keeps when it was asked for what, and tells the events put in."""

    def __init__(self, *names: str) -> None:
        self.servers = [ready(name) for name in names]
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.described: list[str] = []
        self.page_sizes: set[int] = set()
        self.refuses_models = False
        self.stands_for: dict[str, str] = {}
        self.models_known = 0
        self.describe_fails: PoolError | None = None
        self.describe_takes: dict[str, float] = {}
        self.ensured = asyncio.Event()

    def _note(self, rpc: str) -> None:
        self.asked[rpc].append(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[Event]]:
        async def events() -> AsyncIterator[Event]:
            for one in self.servers:
                yield changed(convert.server(one))
            yield Synced(1)
            while True:
                yield await self.events.get()

        yield events()

    async def pages(self, page_size: int, **_: object) -> AsyncIterator[Any]:
        self._note("List")
        self.page_sizes.add(page_size)
        yield convert.page(pb.ListResponse(servers=self.servers, revision=9))

    async def describe(self, model: str, **_: object) -> Description:
        self._note("Describe")
        self.described.append(model)
        await asyncio.sleep(self.describe_takes.get(model, 0))
        if self.describe_fails is not None:
            raise self.describe_fails
        return described(self.stands_for.get(model, model))

    async def ensure(self, model: str) -> EnsureResult:
        self._note(f"Ensure {model}")
        await self.ensured.wait()
        return EnsureResult(server(model), started=True)

    async def evict(self, model: str, *, force: bool) -> list[EvictedServer]:
        self._note(f"Evict {model} {force}")
        raise ServerInUse(f"{model} is held once", metadata={"holds": "1"})

    async def models(self, **_: object) -> tuple[Model, ...]:
        self._note("ListModels")
        if self.refuses_models:
            raise PoolError("not now")
        models = [pb.Model(model=f"known {place}") for place in range(self.models_known)]
        return convert.models(pb.ListModelsResponse(models=models))


class View:
    """A session over a pool, and the user's choices."""

    def __init__(self, pool: Pool) -> None:
        self.controls = Controls()
        self.picture = Picture()
        self.failures: list[BaseException] = []
        client = cast("AsyncPoolClient", pool)
        self.session = Session(
            client, client, self.picture, self.controls, lambda: None, self.failures.append
        )

    def move(self) -> None:
        self.controls.press("down", self.picture)
        self.session.look_at_choice()


@asynccontextmanager
async def viewed(pool: Pool) -> AsyncIterator[View]:
    view = View(pool)
    work = asyncio.gather(
        view.session.watch(),
        view.session.look_regularly(),
        view.session.follow_choice(),
        view.session.keep_models(),
    )
    yield view
    assert not work.done()
    assert view.failures == []
    work.cancel()


async def test_a_small_pool_is_listed_every_two_seconds() -> None:
    pool = Pool("a", "b")
    async with viewed(pool):
        await asyncio.sleep(1)
        begun = len(pool.asked["List"])
        await asyncio.sleep(20)
    assert len(pool.asked["List"]) - begun == 10
    assert pool.page_sizes == {100}


async def test_many_servers_are_listed_less_often_but_the_choice_is_described_as_ever() -> None:
    pool = Pool(*(f"m{place:03}" for place in range(500)))
    async with viewed(pool):
        await asyncio.sleep(1)
        lists, looks = len(pool.asked["List"]), len(pool.asked["Describe"])
        await asyncio.sleep(100)
    assert len(pool.asked["List"]) - lists == 5
    assert len(pool.asked["Describe"]) - looks == 50


async def test_a_move_of_the_choice_describes_the_new_one_alone_and_once_it_rests() -> None:
    pool = Pool(*"abcdefghij")
    async with viewed(pool) as view:
        await asyncio.sleep(4.25)
        lists = list(pool.asked["List"])
        pool.described.clear()
        for _ in range(8):
            view.move()
            await asyncio.sleep(0.1)
        assert pool.described == []
        await asyncio.sleep(0.15)
        assert pool.described == ["i"]
        assert "i" in view.picture.descriptions
        assert pool.asked["List"] == lists


async def test_a_look_that_was_wanted_behind_a_log_is_made_once_the_table_is_back() -> None:
    pool = Pool("a")
    async with viewed(pool) as view:
        await asyncio.sleep(2.05)
        view.controls.press("l", view.picture)
        view.session.look()
        await asyncio.sleep(30)
        lists = list(pool.asked["List"])
        view.controls.press("q", view.picture)
        view.session.look_at_choice()
        await asyncio.sleep(0.1)
    assert len(pool.asked["List"]) == len(lists) + 1


async def test_models_are_listed_each_minute_also_after_a_refusal() -> None:
    pool = Pool("a")
    async with viewed(pool):
        await asyncio.sleep(1)
        begun = len(pool.asked["ListModels"])
        pool.refuses_models = True
        await asyncio.sleep(610)
    assert len(pool.asked["ListModels"]) - begun == 10


@pytest.mark.parametrize(("models", "pause"), [(3, 2), (500, 20)])
async def test_models_are_listed_after_a_server_has_gone_and_not_for_each_of_many(
    models: int, pause: float
) -> None:
    pool = Pool("a")
    pool.models_known = models
    async with viewed(pool):
        await asyncio.sleep(50)
        begun = len(pool.asked["ListModels"])
        for _ in range(round(4.5 * pause)):
            pool.events.put_nowait(removed(server("gone"), revision=2))
            await asyncio.sleep(1)
        listed = pool.asked["ListModels"][begun:]
    assert [round(at - listed[0], 1) for at in listed] == [place * pause for place in range(5)]
    assert listed[0] == 50


async def test_models_are_listed_at_once_for_a_key_however_lately_they_were() -> None:
    pool = Pool("a")
    pool.models_known = 500
    async with viewed(pool) as view:
        await asyncio.sleep(50)
        pool.events.put_nowait(removed(server("gone"), revision=2))
        await asyncio.sleep(1)
        view.session.list_models()
        await asyncio.sleep(1)
    assert pool.asked["ListModels"][-2:] == [50, 51]


@pytest.mark.parametrize("error", [DeadlineExceeded("too late"), PoolUnavailable("it ends")])
async def test_the_last_descriptions_stay_while_the_service_does_not_answer(
    error: PoolError,
) -> None:
    pool = Pool("a")
    async with viewed(pool) as view:
        await asyncio.sleep(1)
        pool.describe_fails = error
        await asyncio.sleep(60.5)
        assert list(view.picture.descriptions) == ["a"]
        assert view.picture.notices == (f"memory and use are not up to date: {error}",)
        pool.describe_fails = ModelUnknown("not listed")
        await asyncio.sleep(3)
        assert view.picture.refusals == {"a": "not listed"}
        assert not view.picture.notices


async def test_a_look_that_takes_long_does_not_forget_the_choice_that_was_described_meanwhile() -> (
    None
):
    pool = Pool(*"ab")
    async with viewed(pool) as view:
        await asyncio.sleep(1)
        pool.describe_takes["a"] = 3
        await asyncio.sleep(1.5)
        view.move()
        await asyncio.sleep(1.5)
        assert next(iter(view.picture.descriptions)) == "b"
        await asyncio.sleep(1.1)
        assert set(view.picture.descriptions) == {"a", "b"}


async def test_a_yes_to_an_old_question_raises_one_that_begins_with_why_it_is_asked_anew() -> None:
    pool = Pool("m")
    async with viewed(pool) as view:
        view.session.call(Evict("m", again="more than a minute has passed"))
        await asyncio.sleep(0.1)
    (question,) = view.controls.questions
    assert question.why == "more than a minute has passed: m is held once"
    assert question.force
    assert len(pool.asked["Evict m False"]) == 1


async def test_the_description_of_another_model_is_not_taken_for_that_of_a_name_of_it() -> None:
    pool = Pool("old")
    pool.stands_for["old"] = "m"
    async with viewed(pool) as view:
        await asyncio.sleep(1)
    assert view.picture.descriptions == {}
    assert view.picture.refusals == {"old": "the name 'old' stands for 'm' now"}


async def test_a_model_is_ensured_once_at_a_time() -> None:
    pool = Pool("a")
    async with viewed(pool) as view:
        for model in ("m", "m", "n"):
            view.session.call(Ensure(model))
        await asyncio.sleep(0.1)
        assert view.controls.calls == ["ensure m", "ensure n"]
        assert [one.text for one in view.controls.messages] == ["ensure m is under way already"]
        pool.ensured.set()
        await asyncio.sleep(0.1)
        assert view.controls.calls == []
        view.session.call(Ensure("m"))
        await asyncio.sleep(0.1)
    assert [len(pool.asked[f"Ensure {model}"]) for model in "mn"] == [2, 1]
