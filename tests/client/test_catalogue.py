"""Models, downloads and reloads."""

import asyncio

import pytest
from grpc import StatusCode

from pool_service_client import (
    AsyncPoolClient,
    ConfigInvalid,
    Expectation,
    ModelRejected,
    Pinned,
    PoolClient,
    Progress,
    Reloaded,
)
from pool_service_client.v1 import pool_service_pb2 as pb
from tests.client.conftest import Client
from tests.client.scripted import Refusal, Script, Stay, ready, retry_after

LOST = Refusal(StatusCode.UNAVAILABLE, "no network", "FETCH_FAILED", (retry_after(0.01),))


def pulled(done: int, total: int = 100) -> pb.PullResponse:
    return pb.PullResponse(done_bytes=done, total_bytes=total)


async def test_models_go_through_all_pages(client: Client, service: Script) -> None:
    first = [pb.Model(model="a"), pb.Model(model="b")]
    service.answer("ListModels", pb.ListModelsResponse(models=first, next_page_token="t"))
    service.answer("ListModels", pb.ListModelsResponse(models=[pb.Model(model="c")]))
    assert [model.model for model in await client.models()] == ["a", "b", "c"]
    asked = [pb.ListModelsRequest(), pb.ListModelsRequest(page_token="t")]
    assert service.asked["ListModels"] == asked


async def test_all_that_the_wire_says_of_a_model_is_reported(
    client: Client, service: Script
) -> None:
    said = pb.Model(
        model="a",
        aliases=["x", "y"],
        runtime_model="org/a",
        runtime="other",
        groups=["g"],
        pinned=True,
        preload=True,
        expected_bytes=7,
        expected_by=pb.EXPECTATION_OBSERVED,
        on_disk=False,
        problem="no such file",
        disk_bytes=5,
        state=pb.SERVER_STATE_READY,
        listed=True,
    )
    service.answer("ListModels", pb.ListModelsResponse(models=[said, pb.Model(model="b")]))
    a, b = await client.models()
    names = [field.name for field in pb.Model.DESCRIPTOR.fields]
    plain = {name: getattr(a, name) for name in names}
    assert plain == {
        **{name: getattr(said, name) for name in names},
        "aliases": ("x", "y"),
        "groups": ("g",),
    }
    assert a.expected_by is Expectation.OBSERVED
    assert (a.on_disk, b.on_disk) == (False, None)


async def test_a_pull_reports_the_bytes_and_ends_with_the_download(
    client: Client, service: Script
) -> None:
    service.answer("Pull", pulled(0, 0), pulled(50), pulled(100))
    assert await client.pulled("m", "r") == [Progress(0, 0), Progress(50, 100), Progress(100, 100)]
    assert service.asked["Pull"] == [pb.PullRequest(model="m", runtime_model="r")]


async def test_a_download_that_broke_is_resumed(client: Client, service: Script) -> None:
    service.answer("Pull", pulled(10), pulled(50), LOST)
    service.answer("Pull", pulled(50), pulled(100))
    assert [progress.done for progress in await client.pulled("m")] == [10, 50, 50, 100]


async def test_a_download_that_is_refused_is_not_asked_for_again(
    client: Client, service: Script
) -> None:
    refused = Refusal(StatusCode.FAILED_PRECONDITION, "no such model", "MODEL_REJECTED")
    service.answer("Pull", refused)
    with pytest.raises(ModelRejected):
        await client.pulled("m")
    assert len(service.asked["Pull"]) == 1


async def test_who_stops_reading_gives_the_download_up(service: Script) -> None:
    service.answer("Pull", pulled(10), Stay())

    def read_one() -> Progress:
        with PoolClient.connect(service.address) as pool:
            for progress in pool.pull("m"):
                return progress
        raise AssertionError

    assert await asyncio.to_thread(read_one) == Progress(10, 100)
    assert await asyncio.to_thread(service.closed, "Pull")


async def test_a_task_that_is_cancelled_gives_the_download_up(service: Script) -> None:
    service.answer("Pull", pulled(10), Stay())
    began = asyncio.Event()

    async def read(pool: AsyncPoolClient) -> None:
        async for _ in pool.pull("m"):
            began.set()

    async with AsyncPoolClient.connect(service.address) as pool:
        reading = asyncio.create_task(read(pool))
        await began.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(service.closed, "Pull")


async def test_a_reload_reports_what_it_changed(client: Client, service: Script) -> None:
    said = pb.ReloadResponse(replaced=["a"], updated=["b", "c"], restart_needed=["service.listen"])
    service.answer("Reload", said)
    assert await client.call("reload", timeout=5.0) == Reloaded(
        ("a",), ("b", "c"), (), ("service.listen",)
    )


async def test_a_configuration_that_is_not_valid_is_reported(
    client: Client, service: Script
) -> None:
    wrong = Refusal(StatusCode.FAILED_PRECONDITION, "line 3", "CONFIG_INVALID")
    service.answer("Reload", wrong)
    with pytest.raises(ConfigInvalid, match="line 3"):
        await client.call("reload")


@pytest.mark.parametrize("download", [True, False])
async def test_ensure_says_whether_it_may_download(
    client: Client, service: Script, download: bool
) -> None:
    service.answer("Ensure", pb.EnsureResponse(server=ready()))
    await client.call("ensure", "m", download=download)
    await client.call("ensure", "m")
    first, second = service.ensured
    assert (first.HasField("download"), first.download) == (True, download)
    assert not second.HasField("download")


async def test_forget_returns_what_was_remembered(client: Client, service: Script) -> None:
    service.answer("Forget", pb.ForgetResponse(runtime_model="r"))
    assert await client.call("forget", "m", timeout=20) == "r"
    assert service.asked["Forget"] == [pb.ForgetRequest(model="m")]


@pytest.mark.parametrize("pinned", [True, False, None])
async def test_pin_says_what_is_wanted_and_returns_what_is(
    client: Client, service: Script, pinned: bool | None
) -> None:
    service.answer("Pin", pb.PinResponse(pinned=True, changed=False, configured=True))
    found = await client.call("pin", "m", pinned=pinned, timeout=20)
    assert found == Pinned(pinned=True, changed=False, configured=True)
    (asked,) = service.asked["Pin"]
    assert asked == pb.PinRequest(model="m", pinned=pinned)
    assert asked.HasField("pinned") is (pinned is not None)


async def test_pin_alone_pins(client: Client, service: Script) -> None:
    service.answer("Pin", pb.PinResponse(pinned=True, changed=True))
    assert (await client.call("pin", "m")).changed
    assert service.asked["Pin"] == [pb.PinRequest(model="m", pinned=True)]
