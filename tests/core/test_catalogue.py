"""The settings that the catalogue gives a model."""

import pytest

from pool_service.core.catalogue import Catalogue
from pool_service.core.types import Settings


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
