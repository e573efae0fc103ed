"""What a caller may not know reaches it in no answer: other models, and what servers write."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from google.protobuf.message import Message

from pool_service.access.principal import LOCAL, ModelPatterns, Principal, Scope
from pool_service.access.quotas import Quotas
from pool_service.audit import Audit
from pool_service.change_history import History
from pool_service.core import errors
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.results import Reloaded
from pool_service.core.types import Diagnosis, ExitReport
from pool_service.pool import Pool
from pool_service.rpc.error_redaction import NAMING, OWN, QUOTING, redacted_error
from pool_service.rpc.redaction import REDACTIONS, redacted
from pool_service.rpc.servicer import PoolServicer
from pool_service.rpc.wire import Wire
from pool_service.v1 import pool_service_pb2 as pb
from tests.pool.running import BUDGET, DEFAULTS, ports
from tests.rpc.asking import Told, ask
from tests.world import Script, World

pytestmark = pytest.mark.looptime

GIB = 1 << 30
PROMPT = b"tell me a story"
MINE = ("mine-a", "mine-b")
SECRETS = ("secret-a", "secret-b", "secret-c")
ALIAS = "secret-alias"
NOBODYS = {name: name.replace("secret", "nobody") for name in (*SECRETS, ALIAS)}
"""For each name that the callers may not know, one as long that there is not."""
WITH_KEYS = ("Ensure", "Hold")

ENGINE = Principal("engine", Scope.USE, models=ModelPatterns(("mine*",)))
WITH_LOGS = replace(ENGINE, logs=True)
DASHBOARD = Principal("dashboard", Scope.READ)
OPERATOR = Principal("operator", Scope.ADMIN)


def failed(model: str) -> ExitReport:
    """How a process of a model ends, which says what was asked."""
    said = f"{model}: {PROMPT.decode()}"
    return ExitReport(1, None, Diagnosis.CRASHED, said, (said,))


def rejected(model: str) -> ExitReport:
    return replace(failed(model), diagnosis=Diagnosis.MODEL_REJECTED)


class Served:
    """A servicer over a scripted world in which all goes wrong now and then."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.world = World()
        self.tasks: list[asyncio.Task[object]] = []
        self.told: list[Told] = []

    async def begin(self) -> None:
        for model in (*MINE, *SECRETS):
            scripts = [self.script(model) for _ in range(12)]
            self.world.script(model, *scripts)
        models = {name: replace(DEFAULTS, runtime_model=name) for name in (*MINE, *SECRETS)}
        catalogue = Catalogue(DEFAULTS, models, {ALIAS: "secret-a"})
        limits = Limits(memory_budget=10 * GIB, queue_timeout=20.0, backoff_initial=1.0)
        self.pool = Pool(ports(self.world), History(0), catalogue, limits)
        await self.pool.recover(BUDGET)

        async def reload() -> Reloaded:
            return await self.pool.reload(catalogue, limits)

        audit = Audit(self.world.events)
        clock = self.world.clock
        self.servicer = PoolServicer(self.pool, Wire(clock), reload, audit, Quotas(clock.now))

    def script(self, model: str) -> Script:
        choose = self.random.choice
        return Script(
            needs=choose([3, 6, 11]) * GIB,
            load=choose([0.0, 2.0, 30.0]),
            dies=choose([float("inf"), float("inf"), 1.0, 60.0]),
            report=choose([failed, rejected])(model),
            requests=choose([0, 0, 1]),
            on_disk=choose([True, True, False]),
        )

    def somebody_does_something(self) -> None:
        model = self.random.choice((*SECRETS, *SECRETS, *MINE))
        request: Message = self.random.choice(
            [
                pb.EnsureRequest(model=model),
                pb.EnsureRequest(model=model, runtime_model=f"{model}/other"),
                pb.HoldRequest(model=model, holder="secret work"),
                pb.EvictRequest(model=model),
                pb.EvictRequest(model=model, force=True),
                pb.PinRequest(model=model, pinned=True),
            ]
        )
        self.begin_to_ask(request, LOCAL)

    def begin_to_ask(self, request: Message, principal: Principal) -> None:
        """Ask, and do not wait for the answer."""
        _ = self.ask(request, principal)

    def ask(self, request: Message, principal: Principal) -> "asyncio.Task[Told]":
        method = type(request).__name__.removesuffix("Request")
        self.told.append(Told(principal))
        call = asyncio.create_task(ask(self.servicer, method, request, self.told[-1]))
        self.tasks.append(call)
        return call

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.pool.shutdown()


@asynccontextmanager
async def served(seed: int) -> AsyncIterator[Served]:
    told = Served(seed)
    await told.begin()
    try:
        yield told
    finally:
        await told.end()


def looks(model: str) -> list[Message]:
    """All that a caller may ask about its own model, and about the pool."""
    return [
        pb.ListRequest(),
        pb.ListRequest(page_size=1),
        pb.GetRequest(model=model),
        pb.GetRequest(model=model, check=True),
        pb.ListModelsRequest(),
        pb.ListModelsRequest(found=True, page_size=1),
        pb.DescribeRequest(model=model),
        pb.TailLogsRequest(model=model),
        pb.EvictRequest(model=model),
        pb.EnsureRequest(model=model),
        pb.EnsureRequest(model=model, runtime_model="secret/other"),
        pb.HoldRequest(model=model),
        pb.PullRequest(model=model),
        pb.PinRequest(model=model, pinned=True),
        pb.ForgetRequest(model=model),
        pb.ReloadRequest(),
        pb.EvictRequest(all=True),
    ]


@pytest.mark.parametrize("seed", range(25))
async def test_no_byte_of_what_a_caller_may_not_know_is_in_any_answer(seed: int) -> None:
    async with served(seed) as pool:
        callers = [ENGINE, WITH_LOGS, DASHBOARD]
        for caller in callers:
            pool.begin_to_ask(pb.WatchRequest(), caller)
        for _ in range(40):
            pool.somebody_does_something()
            await asyncio.sleep(pool.random.choice([0.0, 0.5, 3.0, 25.0]))
            caller = pool.random.choice(callers)
            for request in pool.random.sample(looks(pool.random.choice(MINE)), 4):
                pool.begin_to_ask(request, caller)
        await asyncio.sleep(100.0)
        of_some = [one for one in pool.told if not one.principal.models.is_everything]
        without_logs = [one for one in pool.told if not one.principal.logs]
        # The watches, and what was answered.
        assert all(len(one.told) > 10 for one in pool.told[: len(callers)])
        assert sum(bool(one.told) for one in of_some) > 50
        assert sum(bool(one.told) for one in without_logs) > 50
        for piece in pieces_of(of_some):
            assert b"secret" not in piece.replace(b"secret/other", b"")
        for piece in pieces_of(without_logs):
            assert PROMPT not in piece
        # Whoever asks, the operator included.
        for piece in pieces_of(one for one in pool.told if one.method not in WITH_KEYS):
            assert b"psk_" not in piece
        assert any(b"psk_" in piece for piece in pieces_of(pool.told)), "there are keys to find"


def pieces_of(calls: Iterable[Told]) -> Iterator[bytes]:
    return (piece for call in calls for piece in call.told)


def uses(name: str) -> list[Message]:
    """All that a caller may ask about a model that it names."""
    return [
        pb.EnsureRequest(model=name),
        pb.EnsureRequest(model=name, runtime_model="x"),
        pb.HoldRequest(model=name),
        pb.PullRequest(model=name),
        pb.EvictRequest(model=name),
        pb.GetRequest(model=name),
        pb.DescribeRequest(model=name),
        pb.TailLogsRequest(model=name),
    ]


@pytest.mark.parametrize("name", NOBODYS)
@pytest.mark.parametrize("caller", [ENGINE, WITH_LOGS], ids=["engine", "with logs"])
async def test_a_model_that_a_caller_may_not_know_is_as_one_that_there_is_not(
    caller: Principal, name: str
) -> None:
    async with served(1) as pool:
        pool.world.script("secret-a", Script(load=0.0))
        pool.begin_to_ask(pb.HoldRequest(model="secret-a"), LOCAL)
        await asyncio.sleep(5.0)
        other = NOBODYS[name]
        for request, twin in zip(uses(name), uses(other), strict=True):
            told = await pool.ask(request, caller)
            about_nobody = await pool.ask(twin, caller)
            replaced = [piece.replace(name.encode(), other.encode()) for piece in told.told]
            assert replaced == about_nobody.told
            assert (told.code, about_nobody.code) in {
                ("NOT_FOUND", "NOT_FOUND"),
                ("PERMISSION_DENIED", "PERMISSION_DENIED"),
            }
        assert {one.model for one in pool.pool.page(None, 10)} == {"secret-a"}


async def test_a_caller_may_have_no_other_files_loaded_under_a_name_that_it_may_use() -> None:
    async with served(1) as pool:
        pool.world.script("mine-a", Script(load=0.0))
        other = pb.EnsureRequest(model="mine-a", runtime_model="/home/somebody")
        assert (await pool.ask(other, ENGINE)).code == "PERMISSION_DENIED"
        own = pb.EnsureRequest(model="mine-a", runtime_model="mine-a")
        assert (await pool.ask(own, ENGINE)).code == ""
        unlisted = pb.EnsureRequest(model="mine-z")
        assert (await pool.ask(unlisted, ENGINE)).code == "NOT_FOUND"
        pool.world.script("mine-z", Script(load=0.0))
        assert (await pool.ask(unlisted, OPERATOR)).code == ""


async def test_a_caller_evicts_no_model_for_which_others_wait_or_that_is_pinned() -> None:
    async with served(1) as pool:
        pool.world.script("mine-a", Script(load=50.0), Script(load=0.0))
        pool.begin_to_ask(pb.EnsureRequest(model="mine-a"), LOCAL)
        await asyncio.sleep(1.0)
        evict = pb.EvictRequest(model="mine-a")
        assert (await pool.ask(evict, ENGINE)).code == "PERMISSION_DENIED"
        await asyncio.sleep(100.0)
        await pool.ask(pb.PinRequest(model="mine-a", pinned=True), LOCAL)
        assert (await pool.ask(evict, ENGINE)).code == "PERMISSION_DENIED"
        await pool.ask(pb.PinRequest(model="mine-a", pinned=False), LOCAL)
        assert (await pool.ask(evict, ENGINE)).code == ""
        assert pool.pool.totals().servers == 0


async def test_only_an_admin_is_told_of_files_that_no_model_has() -> None:
    async with served(1) as pool:
        request = pb.DescribeRequest(model="/home/somebody")
        assert (await pool.ask(request, DASHBOARD)).code == "NOT_FOUND"
        assert (await pool.ask(request, OPERATOR)).code == ""


async def test_an_alias_in_the_patterns_shows_its_model() -> None:
    caller = replace(ENGINE, models=ModelPatterns((ALIAS,)))
    async with served(1) as pool:
        pool.world.script("secret-a", Script(load=0.0))
        assert (await pool.ask(pb.EnsureRequest(model=ALIAS), caller)).code == ""
        (listed,) = (await pool.ask(pb.ListRequest(), caller)).told
        assert [one.model for one in pb.ListResponse.FromString(listed).servers] == ["secret-a"]
        assert (await pool.ask(pb.EnsureRequest(model="secret-b"), caller)).code == "NOT_FOUND"


async def test_pages_have_as_many_entries_as_they_may_though_most_are_left_out() -> None:
    async with served(1) as pool:
        (told,) = (await pool.ask(pb.ListModelsRequest(page_size=1), ENGINE)).told
        first = pb.ListModelsResponse.FromString(told)
        assert [one.model for one in first.models] == ["mine-a"]
        request = pb.ListModelsRequest(page_size=1, page_token=first.next_page_token)
        (told,) = (await pool.ask(request, ENGINE)).told
        last = pb.ListModelsResponse.FromString(told)
        assert [one.model for one in last.models] == ["mine-b"]
        assert last.next_page_token == ""


def test_each_answer_and_each_error_has_a_rule() -> None:
    """A new one would be refused to callers who may not know all, until it is decided."""
    services = pb.DESCRIPTOR.services_by_name.values()
    methods = [one for service in services for one in service.methods]
    assert {kind.DESCRIPTOR for kind in REDACTIONS} == {one.output_type for one in methods}
    kinds = [*QUOTING, *NAMING, *OWN]
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) == set(errors.PoolError.__subclasses__())


NAMES_OTHERS = [
    errors.ConfigInvalid("[models.secret-a] is not valid"),
    errors.ModelNotOnDisk("not there. Did you mean 'secret-a'?", model="mine-a"),
    errors.ModelUnknown("its name stands for 'secret-a' now", model="mine-a"),
    errors.PoolFull("it waits for 'secret-a'", model="mine-a", subject="memory", retry_after=5.0),
    errors.PoolUnreachable("no answer (secret-host: it is lost)", model="mine-a", retry_after=1.0),
    errors.ServerInUse("held by secret", model="mine-a", requests=1, holders=("secret", "b")),
]


def of_kind(one: errors.PoolError) -> str:
    return type(one).__name__


@pytest.mark.parametrize("error", NAMES_OTHERS, ids=of_kind)
def test_an_error_that_names_other_models_is_told_without_them(error: errors.PoolError) -> None:
    assert {type(one) for one in NAMES_OTHERS} == set(NAMING)
    for caller in (ENGINE, WITH_LOGS):
        told = redacted_error(error, caller)
        assert type(told) is type(error)
        assert told.model == error.model
        assert "secret" not in repr(vars(told))
    for caller in (DASHBOARD, OPERATOR):
        assert redacted_error(error, caller) is error


QUOTED = [
    errors.CrashLoop("died: tell me", model="mine-a", retry_after=9.0, last_lines=("tell me",)),
    errors.ModelRejected("refused: tell me", model="mine-a", last_lines=("tell me",)),
    errors.RuntimeUnavailable("unusable: tell me", model="mine-a"),
    errors.StartFailed("died: tell me", model="mine-a", last_lines=("tell me",)),
    errors.StartTimeout("late: tell me", model="mine-a", last_lines=("tell me",)),
]


@pytest.mark.parametrize("error", QUOTED, ids=of_kind)
def test_an_error_that_quotes_a_log_is_told_without_that(error: errors.PoolError) -> None:
    assert {type(one) for one in QUOTED} == set(QUOTING)
    for caller in (ENGINE, DASHBOARD, OPERATOR):
        told = redacted_error(error, caller)
        assert type(told) is type(error)
        assert told.model == error.model
        assert "tell me" not in repr(vars(told))
    assert redacted_error(error, replace(OPERATOR, logs=True)) is error


def test_what_is_told_of_a_model_names_no_other() -> None:
    description = pb.DescribeResponse(
        model="mine-a",
        kept_because="secret-a needs it",
        problem="secret-a is its alias",
        next_to_go=[
            pb.EvictionCandidate(model="secret-a"),
            pb.EvictionCandidate(model="mine-a"),
        ],
        decisions=[pb.Decision(why="for secret-a")],
        holders=[pb.Holder(label="secret")],
        waiting=[pb.WaitingCall(holder="secret")],
    )
    answer = redacted(description, WITH_LOGS)
    assert b"secret" not in answer.SerializeToString()
    assert [one.model for one in answer.next_to_go] == ["mine-a"]
    assert (len(answer.holders), len(answer.waiting)) == (1, 1)
    assert redacted(description, replace(OPERATOR, logs=True)) is description
