"""What a request may say: the names and numbers that are refused, and those that are taken."""

import pytest
from google.protobuf.duration_pb2 import Duration

from pool_service.v1 import pool_service_pb2 as pb
from tests.rpc.serving import failure, serving

BAD_MODELS = {
    "empty": "",
    "15 KB": "m" * 15_000,
    "one byte too long": "m" * 513,
    "NUL": "m\0m",
    "newline": "m\nm",
    "trailing newline": "m\n",
    "escape codes": "\x1b[31mred",
    "right to left": "m\u202egpj",
    "zero width": "m\u200bm",
    "cyrillic a": "qwen/\u0430lpha",
    "full width": "\uff4dodel",
    "combining": "e\u0301",
    "parent": "../..",
    "parent inside": "a/../../etc",
    "flag": "-x",
    "trust": "--trust-remote-code",
    "flag behind the prefix": "vllm-mlx/--trust-remote-code",
    "nothing behind the prefix": "vllm-mlx/",
    "parent behind the prefix": "vllm-mlx/..",
    "shell": "a;rm",
    "substitution": "$(id)",
    "backticks": "`id`",
    "pipe": "a|b",
    "url": "file:///etc/passwd",
    "short url": "file://x",
    "https": "https://host/m",
    "leading space": " m",
    "trailing space": "m ",
    "only space": " ",
    "backslash": "a\\b",
    "quote": "a'b",
    "braces": "{port}",
}


@pytest.mark.parametrize("model", BAD_MODELS.values(), ids=BAD_MODELS.keys())
async def test_a_bad_model_is_refused_and_nothing_is_started(model: str) -> None:
    async with serving() as service:
        for told in (
            await failure(service.ensure(model)),
            await failure(service.stub.Evict(pb.EvictRequest(model=model))),
            await failure(service.stub.Pin(pb.PinRequest(model=model, pinned=True))),
        ):
            assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_MODEL")
            violation = told.details["BadRequest"].field_violations[0]
            assert violation.field == "model"
            assert violation.description == told.message
            assert told.message.isprintable()
        assert service.world.calls == []
        assert service.pool.page(None, 1) == []


async def test_a_model_of_a_megabyte_is_refused_before_it_is_read() -> None:
    async with serving() as service:
        told = await failure(service.ensure("m" * 2**20))
        assert told.code == "RESOURCE_EXHAUSTED"
        assert service.world.calls == []


@pytest.mark.parametrize(
    "model",
    [
        "m",
        "org/name",
        "vllm-mlx/qwen3-4b",
        "/models/a b",
        "~/m",
        "a@b:c+d=e,f#g%h",
        ".m",
        "m" * 512,
    ],
)
async def test_a_good_model_is_taken(model: str) -> None:
    async with serving() as service:
        assert (await service.ensure(model)).server.model == model


@pytest.mark.parametrize(
    "runtime_model", ["-x", "--trust-remote-code", "a\nb", "a\0", "\u202ea", " a", "m" * 4097]
)
async def test_a_bad_runtime_model_is_refused_and_nothing_is_started(runtime_model: str) -> None:
    async with serving() as service:
        told = await failure(service.ensure(runtime_model=runtime_model))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_RUNTIME_MODEL")
        assert service.world.calls == []


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(1, -1), (-1, 1), (1, 10**9), (0, -(10**9)), (11 * 365 * 86400, 0), (2**62, 0)],
)
async def test_a_keep_alive_that_is_no_duration_is_refused(seconds: int, nanos: int) -> None:
    async with serving() as service:
        told = await failure(service.ensure(keep_alive=Duration(seconds=seconds, nanos=nanos)))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_KEEP_ALIVE")
        assert service.world.calls == []


@pytest.mark.parametrize(
    ("seconds", "nanos", "stays"),
    [(0, 0, 10.0), (5, 0, 10.0), (20, 0, 20.0), (0, 1, 10.0), (-1, 0, None), (0, -1, None)],
)
async def test_keep_alive_says_when_an_unused_server_goes(
    seconds: int, nanos: int, stays: float | None
) -> None:
    async with serving() as service:
        keep_alive = Duration(seconds=seconds, nanos=nanos)
        server = (await service.ensure(keep_alive=keep_alive)).server
        if stays is None:
            assert not server.HasField("expire_time")
        else:
            lasts = server.expire_time.ToNanoseconds() - server.last_use_time.ToNanoseconds()
            assert lasts / 1e9 == pytest.approx(stays)


@pytest.mark.parametrize(
    "request_", [pb.EvictRequest(), pb.EvictRequest(idle=False), pb.EvictRequest(all=False)]
)
async def test_an_eviction_of_nothing_in_particular_is_refused(request_: pb.EvictRequest) -> None:
    async with serving() as service:
        told = await failure(service.stub.Evict(request_))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_TARGET")


@pytest.mark.parametrize("token", ["!!!!", "bm90 base64", "=", "/w==", "_w==", "Y\u00e9", "YQ"])
async def test_a_page_token_of_somebody_else_is_refused(token: str) -> None:
    async with serving() as service:
        told = await failure(service.stub.List(pb.ListRequest(page_token=token)))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN")


async def test_a_negative_page_size_is_refused() -> None:
    async with serving() as service:
        told = await failure(service.stub.List(pb.ListRequest(page_size=-1)))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_PAGE_SIZE")


async def test_what_is_idle_needs_no_force() -> None:
    async with serving() as service:
        told = await failure(service.stub.Evict(pb.EvictRequest(idle=True, force=True)))
        assert (told.code, told.reason) == ("INVALID_ARGUMENT", "INVALID_FORCE")
        assert [each.field for each in told.details["BadRequest"].field_violations] == ["force"]
