"""The settings of a model as text, and where each comes from."""

from dataclasses import replace

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.effective_settings import (
    KEYS,
    LONGEST_VALUE,
    EffectiveSetting,
    SandboxState,
    effective_settings,
    sandbox_setting,
)
from pool_service.core.server import Phase, Server
from pool_service.core.types import FOREVER, LaunchPlan, Sandbox, Settings

DEFAULTS = Settings(runtime_model="", keep_alive=600.0)


def told(
    catalogue: Catalogue, model: str = "m", named: str = "", server: Server | None = None
) -> dict[str, EffectiveSetting]:
    settings = catalogue.settings_for(model, named)
    return {one.key: one for one in effective_settings(catalogue, model, settings, server)}


def listed(**own: object) -> Catalogue:
    """A catalogue whose model `m` sets these, beside a default that is set."""
    return Catalogue(
        DEFAULTS,
        {"m": replace(DEFAULTS, **own)},  # type: ignore[arg-type]
        section_keys={"m": frozenset(own)},
        default_origins={"keep_alive": "[defaults]"},
    )


def value(**own: object) -> str:
    ((key, _),) = own.items()
    return told(listed(**own))[key].value


def test_each_setting_is_told_once_with_where_it_comes_from() -> None:
    found = told(listed(stop_timeout=5.0))
    assert list(found) == list(KEYS)
    assert found["stop_timeout"].source == '[models."m"]'
    assert found["keep_alive"].source == "[defaults]"
    assert found["drain_timeout"].source == "default"
    assert found["runtime_model"].source == "the name of the model"


def test_with_another_runtime_model_the_section_does_not_apply() -> None:
    found = told(listed(stop_timeout=5.0), named="org/other")
    assert (found["stop_timeout"].value, found["stop_timeout"].source) == ("10s", "default")
    assert found["runtime_model"].source == "named by a caller, and remembered"


def test_the_home_model_is_so_by_the_service_s_section() -> None:
    found = told(replace(listed(), home_model="m"))
    assert (found["home"].value, found["home"].source) == ("true", "service.home_model")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(FOREVER, "forever"), (0.0, "0s"), (90.0, "1m30s"), (5400.0, "1h30m"), (0.5, "0.5s")],
)
def test_durations_are_told_as_the_configuration_has_them(seconds: float, text: str) -> None:
    assert value(keep_alive=seconds) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--port", "1"), "--port 1"),
        (("--api-key", "s3cret", "x"), "--api-key *** x"),
        (("--hf-token=s3cret",), "--hf-token=***"),
        (("--max-tokens", "8192"), "--max-tokens 8192"),
        (("--max-tokens=8192",), "--max-tokens=8192"),
        (("--use-key", "--port", "1"), "--use-key --port 1"),
        (("-e", "API_KEY=s3cret"), "-e API_KEY=***"),
        (("--header", "Authorization: Bearer s3cret"), "--header ***"),
        (("--proxy", "https://ada:s3cret@host/"), "--proxy https://***@host/"),
        ((), "none"),
    ],
)
def test_arguments_that_are_secret_by_their_name_are_left_out(
    arguments: tuple[str, ...], text: str
) -> None:
    assert value(arguments=arguments) == text


def test_neither_variables_nor_prompts_are_told_but_their_names_and_sizes() -> None:
    assert value(environment=(("A", "s3cret"),)) == "A (values are not shown)"
    assert value(warm_prompts=("s3cret", "two")) == "2, of 9 characters"


def test_sizes_are_told_in_units_and_none_as_words() -> None:
    assert value(memory_limit=3_000_000_000) == "3.0 GB"
    assert value(memory_limit=None) == "none"
    assert value(prompt_cache=0) == "off"


def test_a_long_value_is_cut() -> None:
    assert len(value(arguments=("x" * 10_000,))) == LONGEST_VALUE


def server(**changed: object) -> Server:
    settings = replace(DEFAULTS, runtime_model="m", **changed)  # type: ignore[arg-type]
    return Server("m", settings, Phase.READY, 1, 0.0, 0.0, keep_alive=settings.keep_alive)


def test_what_the_present_server_has_otherwise_is_told_beside() -> None:
    found = told(listed(), server=server(drain_timeout=1.0))
    assert (found["drain_timeout"].value, found["drain_timeout"].running) == ("5m", "1s")
    assert found["keep_alive"].running == ""


def test_a_keep_alive_that_a_caller_asked_for_is_told_as_his() -> None:
    found = told(listed(), server=replace(server(), keep_alive=5.0))
    assert found["keep_alive"].running == "5s (by a caller)"


PLAN = LaunchPlan(("x",), (), None, "/health", "m", "nonce")
CONFINED, FREE = replace(PLAN, sandbox=Sandbox()), PLAN


@pytest.mark.parametrize(
    ("flaw", "plan", "expected"),
    [
        ("", None, ("confined", "")),
        ("", CONFINED, ("confined", "")),
        ("", FREE, ("confined", "not confined")),
        ("no Landlock", None, ("not confined: no Landlock", "")),
        ("no Landlock", FREE, ("not confined: no Landlock", "")),
        ("no Landlock", CONFINED, ("not confined: no Landlock", "confined")),
    ],
)
def test_whether_servers_are_confined_is_told_and_whether_the_present_one_is(
    flaw: str, plan: LaunchPlan | None, expected: tuple[str, str]
) -> None:
    told = sandbox_setting(SandboxState(flaw), replace(server(), plan=plan))
    assert (told.value, told.running) == expected
    assert told.source == "default"
    assert sandbox_setting(SandboxState(flaw, "[runtime]"), None).source == "[runtime]"
