import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.names import MAX_MODEL_BYTES, model_flaw, runtime_model_flaw


@pytest.mark.parametrize("name", ["vllm-mlx/qwen3-4b", "a", "org/name@main:q4", "/models/x", "a b"])
def test_names_of_models_are_valid(name: str) -> None:
    assert model_flaw(name) is None
    assert runtime_model_flaw(name) is None


@pytest.mark.parametrize(
    ("name", "flaw"),
    [
        ("", "is required"),
        ("x" * (MAX_MODEL_BYTES + 1), "is longer than 512 bytes"),
        ("a\nb", "has control or invisible characters"),
        ("a\u202eb", "has control or invisible characters"),
        ("a\ud800", "has control or invisible characters"),
        (" a", "begins or ends with white space"),
        ("-x", "begins with '-' and so looks like an option"),
        ("vllm-mlx/-x", "must name a model behind vllm-mlx/, not an option"),
        ("file://x", "must be a name, not a URL or a path with '..'"),
        ("../../etc", "must be a name, not a URL or a path with '..'"),
        ("$(id)", "may have only ASCII letters, digits and / _ . ~ @ : + = , # % - space"),
    ],
)
def test_a_flaw_is_named(name: str, flaw: str) -> None:
    assert model_flaw(name) == flaw


def test_what_to_load_may_be_a_directory_of_any_letters() -> None:
    assert runtime_model_flaw("/модели/a..b/$x") is None
    assert runtime_model_flaw("-x") == "begins with '-' and so looks like an option"


@given(st.text())
def test_a_valid_name_shows_as_it_is_and_is_no_option(name: str) -> None:
    if model_flaw(name) is None:
        assert name.isprintable()
        assert name.isascii()
        assert not name.startswith("-")
