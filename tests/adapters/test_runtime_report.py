"""What is told of a runtime's program: its versions, the promises that it lets the pool keep."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from pool_service.adapters.runtime.descriptions.vllm_mlx_counts import (
    PATHS,
    REQUESTS,
    VERSIONS,
    counts_of,
    in_words,
)
from pool_service.adapters.runtime.program import CommandRuntime
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.runtime_report import RuntimeDescription, use_costs
from pool_service.core.types import Settings
from tests.adapters.test_search import put_metadata, python_with

EVERY_USE = "each request is a use, also one that comes and goes between two checks"


def vllm_mlx(directory: Path, version: str, *more: str) -> RuntimeOptions:
    default = RuntimeOptions(directory)
    program = python_with(directory, version)
    return replace(default, command=(str(program), *default.command[1:], *more))


def other(directory: Path, name: str, **more: object) -> RuntimeOptions:
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return RuntimeOptions(directory, command=(str(path),), **more)  # type: ignore[arg-type]


def described(options: RuntimeOptions) -> RuntimeDescription:
    return asyncio.run(CommandRuntime(options).describe())


def promises(options: RuntimeOptions) -> dict[str, str]:
    return {one.subject: one.how for one in described(options).promises}


def test_of_a_vllm_mlx_that_counts_all_every_promise_is_kept(tmp_path: Path) -> None:
    options = vllm_mlx(tmp_path, "0.6.0")
    put_metadata(tmp_path / "lib", "mlx-lm", "0.31.3")
    found = described(options)
    assert (found.known_as, found.version, found.packages) == (
        "vllm-mlx",
        "0.6.0",
        ("mlx-lm 0.31.3",),
    )
    assert found.flaws == ()
    assert promises(options) == {
        "ready": "once /health answers healthy",
        "in flight": "seen by the program's own count of requests",
        "last use": EVERY_USE,
        "stop": "the program finishes its requests after SIGTERM",
        "keys": "each server has a key of its own, without which it answers 401",
    }


@pytest.mark.parametrize(
    ("more", "missing"),
    [
        ((), "streams of /v1/responses"),
        (("--gpu-memory-utilization", "0.8"), f"streams of {', '.join(PATHS)}"),
    ],
)
def test_what_an_earlier_vllm_mlx_does_not_count_is_told(
    tmp_path: Path, more: tuple[str, ...], missing: str
) -> None:
    in_flight = promises(vllm_mlx(tmp_path, "0.5.0", *more))["in flight"]
    assert f"since the count leaves out {missing}: a server that has" in in_flight


def test_an_mlx_lm_that_is_too_old_is_told_wherever_one_looks(tmp_path: Path) -> None:
    options = vllm_mlx(tmp_path, "0.6.0")
    old = put_metadata(tmp_path / "lib", "mlx-lm", "0.31.0")
    (flaw,) = described(options).flaws
    assert flaw.startswith("mlx-lm 0.31.0 is too old for vllm-mlx 0.6.0: ")
    assert flaw.endswith("Install 0.31.1 or later beside it")
    with capture_logs() as logs:
        asyncio.run(CommandRuntime(options).prepare("m", Settings("org/name")))
    assert flaw in {line.get("why") for line in logs}
    old.rename(tmp_path / "gone")
    put_metadata(tmp_path / "lib", "mlx-lm", "0.31.1")
    assert described(options).flaws == ()


def test_of_a_known_program_its_description_is_told(tmp_path: Path) -> None:
    options = other(tmp_path, "llama-server")
    found = described(options)
    assert (found.kind, found.known_as, found.version) == ("plain", "llama-server", None)
    assert str(found) == f"llama-server, configured: {options.command[0]}"
    kept = promises(options)
    assert (
        "by open connections, since the count leaves out requests that it prepares"
        in kept["in flight"]
    )
    assert kept["last use"] == EVERY_USE
    assert kept["stop"].startswith("the program gets SIGTERM when no request is in flight")
    assert kept["keys"].startswith("each server has a key")
    assert promises(replace(options, server_keys=False))["keys"].startswith("none")
    lazy = promises(other(tmp_path, "mlx_lm.server"))
    assert lazy["ready"].endswith("and /v1/completions has answered one small request")


def test_of_another_program_is_told_what_the_configuration_says(tmp_path: Path) -> None:
    own = other(tmp_path, "ours", health_path="/up")
    assert described(own).known_as is None
    kept = promises(own)
    assert kept["ready"] == "once /up answers healthy"
    assert kept["in flight"].endswith(
        "by open connections: a server that has one is stopped for nobody"
    )
    assert kept["last use"].endswith("between two checks is not seen")
    counted = replace(own, busy_path="/b", busy_values=("n",), use_values=("u",), drains=True)
    kept = promises(counted)
    assert kept["in flight"].endswith("by the program's own count of requests")
    assert (kept["last use"], kept["stop"][:20]) == (EVERY_USE, "the program finishes")


def test_what_an_option_costs_is_told_with_the_key_that_has_it(tmp_path: Path) -> None:
    options = vllm_mlx(tmp_path, "0.5.0", "--gpu-memory-utilization=0.8")
    settings = Settings("m", arguments=("--mllm-draft-model", "d"), trust_remote_code=True)
    costs = list(use_costs(options, settings, "0.5.0"))
    assert [(key, what.partition(",")[0]) for key, what in costs] == [
        ("command", "beside --gpu-memory-utilization"),
        ("arguments", "beside --mllm-draft-model"),
        ("trust_remote_code", "beside --trust-remote-code"),
    ]
    assert list(use_costs(options, settings, "0.6.0")) == []
    assert list(use_costs(other(tmp_path, "ours"), settings, None)) == []
    assert asyncio.run(CommandRuntime(options).use_costs(settings)) == costs
    (flaw,) = described(options).flaws
    assert flaw == costs[0][1]


def test_the_counts_of_versions_hold_from_each_on() -> None:
    newest, oldest = VERSIONS[0], VERSIONS[-1]
    for release, counts in (
        ((0, 3, 0), oldest),
        ((0, 5, 9), oldest),
        ((0, 6, 0), newest),
        ((1, 0, 0), newest),
        (None, oldest),
    ):
        assert counts_of(release) is counts
    assert (newest.missing, in_words(newest.missing)) == (frozenset(), "")
    assert in_words(REQUESTS) == f"answers of {', '.join(PATHS)} and streams of {', '.join(PATHS)}"
