"""The settings that the catalogue gives a model."""

import pytest

from pool_service.core.catalogue import Catalogue, Found, page_of_models
from pool_service.core.types import Settings
from tests.core.parts import made


@pytest.mark.parametrize(
    ("model", "asked", "loaded"),
    [
        ("org/m", "", "org/m"),
        ("vllm-mlx/qwen", "", "qwen"),
        ("vllm-mlx/vllm-mlx/qwen", "", "vllm-mlx/qwen"),
        ("known", "", "org/known"),
        ("known", "other", "other"),
        ("org/m", "other", "other"),
        ("half", "", "half"),
    ],
)
def test_what_the_runtime_loads_is_the_callers_word_then_the_configurations_then_the_name(
    model: str, asked: str, loaded: str
) -> None:
    models = {"known": Settings("org/known"), "half": Settings("", keep_alive=1.0)}
    catalogue = Catalogue(Settings("", keep_alive=7.0), models)
    assert catalogue.settings_for(model, asked).runtime_model == loaded


def test_a_models_own_settings_replace_the_defaults_whole() -> None:
    catalogue = Catalogue(Settings("", keep_alive=7.0), {"m": Settings("", keep_alive=1.0)})
    assert catalogue.settings_for("m").keep_alive == 1.0
    assert catalogue.settings_for("n").keep_alive == 7.0


def test_a_server_whose_name_stands_for_another_model_now_is_listed_with_that() -> None:
    catalogue = Catalogue(models={"m": Settings("org/m")}, aliases={"old": "m"})
    entries = page_of_models(catalogue, [made("old"), made("free")], Found())
    assert {one.model: one.flaw for one in entries} == {
        "m": "",
        "old": "its name stands for 'm' now, so it is not served",
        "free": "",
    }


def test_a_page_of_models_goes_on_where_the_one_before_ended() -> None:
    catalogue = Catalogue(models={"b": Settings("org/b"), "d": Settings("org/d")})
    found = Found(kept={"c": "org/c"}, cached=["a", "org/b", "e"])
    names = list[str]()
    while page := page_of_models(catalogue, [], found, names[-1] if names else None, 2):
        assert len(page) <= 2
        names += [one.model for one in page]
    assert names == ["a", "b", "c", "d", "e"]


def test_the_state_of_a_listed_model_is_told_among_all_and_among_the_listed() -> None:
    catalogue = Catalogue(models={"m": Settings("org/m"), "n": Settings("org/n")})
    for found in (None, Found()):
        entries = page_of_models(catalogue, [made("m")], found)
        assert [(one.model, one.phase) for one in entries] == [("m", made("m").phase), ("n", None)]
