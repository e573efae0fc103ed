"""Standbys, with a small program in the place of the one that imports a runtime ahead."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.logs.logs import open_for_append
from pool_service.adapters.process.identity import is_alive
from pool_service.adapters.process.launch import work_dirs
from pool_service.adapters.standby import process, standbys
from pool_service.adapters.standby.process import Standby, StandbySpec, launch
from pool_service.core.errors import RuntimeUnavailable, StartFailed
from pool_service.core.types import LaunchPlan, Settings
from tests.adapters.light_standby import SETTINGS, Kept, said, until

OTHERS = Settings(runtime_model="", environment=(("A", "other"),))


# --- becoming a server --------------------------------------------------------------------


async def test_a_standby_becomes_the_server_that_is_asked_for(kept: Kept) -> None:
    (waiting,) = await kept.filled()
    child = await kept.start("model", "--max", "7")
    assert child is not None
    assert child.identity == waiting
    assert said(child) == f"{kept.program} serve model --max 7\n"
    assert (work_dirs(kept.state_dir) / child.nonce).is_dir()


async def test_without_a_warm_one_a_new_one_is_told_at_once(kept: Kept) -> None:
    kept.keep(0)
    child = await kept.start("model")
    assert said(child) == f"{kept.program} serve model\n"
    assert kept.standbys.identities == ()


@pytest.mark.parametrize("wanted", [0, 1])
async def test_switched_off_no_server_becomes_of_one(kept: Kept, wanted: int) -> None:
    kept.keep(0, wanted=wanted)
    assert (await kept.start("model") is None) is (wanted == 0)


async def test_the_files_of_a_plan_are_in_its_directory_for_this_user_only(kept: Kept) -> None:
    await kept.filled()
    plan = replace(kept.plan("model"), files=(("prompts.json", "[]"),))
    child = await kept.standbys.start("m", 1, plan)
    assert child is not None
    kept.started.append(child)
    file = work_dirs(kept.state_dir) / child.nonce / "prompts.json"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("[]", 0o600)


async def test_a_plan_of_another_kind_is_started_plainly(kept: Kept) -> None:
    await kept.filled()
    plan = LaunchPlan(("/bin/other", "serve"), (), None, "/", "m", "n", "plain")
    assert await kept.standbys.start("m", 1, plan) is None
    assert StandbySpec.of(LaunchPlan(("/x/vllm-mlx",), (), None, "/", "m", "n", "plain")) is None
    assert StandbySpec.of(LaunchPlan(("/x/other",), (), None, "/", "m", "n", "vllm-mlx")) is None
    assert kept.standbys.count == 1


async def test_a_standby_of_another_environment_is_left_waiting(kept: Kept) -> None:
    (waiting,) = await kept.filled()
    child = await kept.start("model", more={"A": "other"})
    assert child is not None
    assert child.identity != waiting
    assert kept.standbys.identities == (waiting,)


async def test_a_warm_one_is_taken_before_one_that_is_not(kept: Kept) -> None:
    first, second = await kept.filled(2)
    kept.standbys._standbys[0].is_warm = False
    kept.keep(2, refill=False)
    child = await kept.start("model")
    assert child is not None
    assert child.identity == second
    assert kept.standbys.identities == (first,)


async def test_a_standby_whose_runtime_was_changed_is_ended(kept: Kept) -> None:
    (waiting,) = await kept.filled()
    os.utime(kept.program, (1, 1))
    child = await kept.start("model")
    assert child is not None
    assert child.identity != waiting
    await until(lambda: not is_alive(waiting))


async def test_a_change_is_noticed_also_when_standbys_are_kept_again(kept: Kept) -> None:
    (waiting,) = await kept.filled()
    os.utime(kept.program, (1, 1))
    kept.keep()
    await until(lambda: kept.standbys.identities not in ((), (waiting,)))
    await until(lambda: not is_alive(waiting))


async def test_where_the_log_cannot_be_made_the_start_fails_and_the_standby_ends(
    kept: Kept,
) -> None:
    (waiting,) = await kept.filled()
    (kept.state_dir / "logs").write_text("no directory")
    with pytest.raises(StartFailed):
        await kept.start("model")
    await until(lambda: not is_alive(waiting))


# --- readiness ----------------------------------------------------------------------------


async def test_a_server_notifies_when_it_listens(kept: Kept) -> None:
    await kept.filled()
    child = await kept.start("model")
    assert child is not None
    await until(lambda: kept.notifications.of(child.identity) is None)
    assert await kept.start("model") is not None, "its model is not doubted"


async def test_a_model_whose_server_was_not_ready_is_started_plainly_next_time(
    kept: Kept,
) -> None:
    kept.environment["DOES"] = "not ready"
    kept.keep(0)
    child = await kept.start("model")
    assert child is not None
    await until(lambda: kept.notifications.of(child.identity) is None)
    assert await kept.start("another", model="another") is not None
    assert await kept.start("model") is None
    assert await kept.start("model") is not None, "once"


async def test_a_server_that_has_just_ended_is_judged_before_the_next_start(kept: Kept) -> None:
    kept.environment["DOES"] = "not ready"
    kept.keep(0)
    child = await kept.start("model")
    assert child is not None
    os.kill(child.identity.pid, signal.SIGKILL)
    # The event loop does not run meanwhile, and has not heard of it.
    child.popen.wait(60)
    assert await kept.start("model") is None


async def test_one_that_was_ready_before_it_was_asked_is_not_waited_for(kept: Kept) -> None:
    await kept.filled()
    (waiting,) = kept.standbys._standbys
    waiting.is_ready = True
    child = await kept.start("model")
    assert child is not None
    assert kept.notifications.of(child.identity) is None
    assert waiting.channel.fileno() == -1


# --- trouble ------------------------------------------------------------------------------


async def test_one_that_fails_ahead_is_logged_and_leaves_it_to_the_plain_command(
    kept: Kept,
) -> None:
    kept.environment["DOES"] = "fails"
    with capture_logs() as logs:
        kept.keep()
        assert kept.standbys._fill_task
        await kept.standbys._fill_task
        await asyncio.gather(*kept.standbys._tasks)
    (line,) = logs
    assert line["event"] == (
        "a standby has failed; servers are started by the plain command for now"
    )
    assert (line["wrote"], line["program"]) == ("no module named mlx", str(kept.program))
    assert kept.standbys.identities == ()
    assert await kept.start("model") is None


async def test_other_settings_give_a_program_that_failed_another_try(kept: Kept) -> None:
    kept.environment["DOES"] = "fails"
    kept.keep()
    assert kept.standbys._fill_task
    await kept.standbys._fill_task
    kept.environment["DOES"] = ""
    broken = StandbySpec(
        str(kept.program), tuple(sorted((kept.environment | {"DOES": "fails"}).items()))
    )
    assert kept.standbys._is_suspended(broken)
    kept.keep(0)
    assert kept.standbys._is_suspended(broken), "the same settings"
    kept.keep(0, settings=OTHERS)
    assert not kept.standbys._is_suspended(broken)


async def test_a_program_that_failed_is_tried_again_after_its_time(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    kept.standbys._suspended_until[kept.spec()] = now + standbys.RETRY_AFTER_S
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: now)
        now += standbys.RETRY_AFTER_S - 1
        assert kept.standbys._is_suspended(kept.spec())
        now += 1
        assert not kept.standbys._is_suspended(kept.spec())
        assert not kept.standbys._is_suspended(kept.spec({"A": "other"}))


async def test_one_that_talks_nonsense_counts_as_failed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.environment["DOES"] = "junk"
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    kept.keep()
    assert kept.standbys._fill_task
    await kept.standbys._fill_task
    assert kept.standbys.identities == ()
    assert kept.standbys._is_suspended(kept.spec())


async def test_one_that_was_killed_while_it_waited_is_no_failure(kept: Kept) -> None:
    (waiting,) = await kept.filled()
    os.kill(waiting.pid, signal.SIGKILL)
    await until(lambda: not kept.standbys.identities)
    assert await kept.start("model") is not None


async def test_one_that_is_slow_is_passed_over_and_is_no_failure(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standbys, "WAITING_TIMEOUT_S", 0.05)
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    (waiting,) = await kept.filled()
    os.kill(waiting.pid, signal.SIGSTOP)
    with capture_logs() as logs:
        child = await kept.start("model")
    assert child is not None
    assert child.identity != waiting
    assert [line["event"] for line in logs] == ["a standby did not accept its arguments in time"]
    assert not kept.standbys._is_suspended(kept.spec())
    await until(lambda: not is_alive(waiting))
    await until(lambda: not kept.standbys._tasks)


@pytest.mark.parametrize("does", ["refuses", "closes", "refuses in other words"])
async def test_one_that_fails_instead_of_becoming_a_server_is_a_failure_even_while_it_runs(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, does: str
) -> None:
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    kept.environment["DOES"] = does
    await kept.filled()
    assert await kept.start("model") is None
    assert kept.standbys._is_suspended(kept.spec())
    assert not kept.logs.path_of("m", 1).exists()


async def test_a_program_that_does_more_than_run_vllm_mlx_has_no_standby(kept: Kept) -> None:
    kept.program.write_text(kept.program.read_text().replace("\n", " -O\n", 1))
    with capture_logs() as logs:
        assert await kept.start("model") is None, "it is off"
        kept.keep(0)
        assert await kept.start("model") is None
        assert await kept.start("model") is None
    (line,) = logs
    assert line["event"].startswith("the program does more than run vllm-mlx")
    assert line["program"] == str(kept.program)


async def test_a_process_that_cannot_be_started_leaves_it_to_the_plain_command(
    kept: Kept,
) -> None:
    (kept.state_dir / "work").parent.mkdir()
    (kept.state_dir / "work").write_text("no directory")
    kept.keep(0)
    with capture_logs() as logs:
        assert await kept.start("model") is None
    assert [line["event"] for line in logs] == ["cannot start a standby"]
    assert not kept.standbys._is_suspended(kept.spec()), "it may work later"


# --- how many -----------------------------------------------------------------------------


async def test_as_many_are_kept_as_are_wanted_and_allowed(kept: Kept) -> None:
    kept.keep(2, wanted=1)
    await until(lambda: kept.standbys._fill_task is None)
    assert kept.standbys.count == 1
    first, second = await kept.filled(2)
    kept.keep(1)
    assert kept.standbys.identities == (first,), "the newest goes first"
    await until(lambda: not is_alive(second))
    kept.keep(0)
    await until(lambda: not is_alive(first))


async def test_one_that_becomes_a_server_is_replaced_only_if_that_is_wished(kept: Kept) -> None:
    await kept.filled()
    kept.keep(refill=False)
    assert await kept.start("model") is not None
    assert kept.standbys._fill_task is None
    assert kept.standbys.identities == ()
    await kept.filled()


async def test_settings_that_change_while_one_gets_warm_are_those_of_the_next(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.environment["DOES"] = "never warm"
    monkeypatch.setattr(process, "EXIT_TIMEOUT_S", 0.05)
    kept.keep()
    await until(lambda: kept.standbys.identities)
    (first,) = kept.standbys.identities
    assert kept.standbys.count == 0
    kept.environment["DOES"] = ""
    kept.keep(0)
    kept.keep(1, settings=OTHERS)
    await until(lambda: kept.standbys.count == 1)
    assert kept.standbys.identities != (first,)
    assert dict(kept.standbys._standbys[0].spec.environment)["A"] == "other"
    await until(lambda: not is_alive(first))


async def test_one_that_is_not_allowed_any_more_when_it_begins_is_ended(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[Standby]()

    def meanwhile(recipe: StandbySpec, state_dir: Path) -> Standby | None:
        one = launch(recipe, state_dir)
        assert one is not None
        begun.append(one)
        kept.standbys._allowed = 0
        return one

    monkeypatch.setattr(standbys, "launch", meanwhile)
    kept.keep()
    assert kept.standbys._fill_task
    await kept.standbys._fill_task
    assert kept.standbys.identities == ()
    assert begun[0].popen.returncode == 0


async def test_all_are_ended_at_the_end(kept: Kept) -> None:
    waiting = await kept.filled(2)
    await kept.standbys.close()
    assert kept.standbys.identities == ()
    assert not any(map(is_alive, waiting))
    assert list(work_dirs(kept.state_dir).iterdir()) == []
    kept.standbys.keep(SETTINGS, wanted=0, allowed=0, refill=True)
    assert kept.standbys._fill_task is None


async def test_at_the_end_nobody_waits_for_a_recipe(kept: Kept) -> None:
    asked = asyncio.Event()

    async def never(_settings: Settings) -> StandbySpec:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    kept.standbys._spec_for = never
    kept.keep()
    await asked.wait()
    await kept.standbys.close()
    assert kept.standbys._fill_task is None


@pytest.mark.parametrize(
    ("error", "level", "event"),
    [
        (RuntimeUnavailable("there is none"), "debug", "no standbys are kept"),
        (ValueError("a fault of ours"), "error", "no standbys are kept"),
    ],
)
async def test_without_a_recipe_there_is_none_and_that_is_logged(
    kept: Kept, error: Exception, level: str, event: str
) -> None:
    kept.recipe_error = error
    with capture_logs() as logs:
        kept.keep()
        assert kept.standbys._fill_task
        await asyncio.gather(kept.standbys._fill_task, return_exceptions=True)
        await asyncio.sleep(0)
    assert [(line["log_level"], line["event"]) for line in logs] == [(level, event)]
    assert kept.standbys._fill_task is None


@pytest.mark.parametrize(("told", "heard"), [("96", [96]), ("0", [])])
async def test_what_metal_recommends_is_told_once_it_is_warm(
    kept: Kept, told: str, heard: list[int]
) -> None:
    kept.environment["WORKING_SET"] = told
    await kept.filled()
    assert kept.working_sets == heard


async def test_the_log_of_a_server_is_open_in_the_server_alone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = list[int]()

    def noted(path: Path) -> int:
        opened.append(open_for_append(path))
        return opened[-1]

    monkeypatch.setattr(standbys, "open_for_append", noted)
    kept.keep(0)
    child = await kept.start("model")
    assert child is not None
    with suppress(OSError):
        assert not os.path.samestat(os.fstat(opened[0]), child.log_path.stat())
