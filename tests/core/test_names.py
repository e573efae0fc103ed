import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_service.core.error_texts import model_unknown, not_on_disk
from pool_service.core.names import (
    MAX_COMPARED,
    MAX_MODEL_BYTES,
    _flaw_of_short_name,
    did_you_mean,
    model_flaw,
    runtime_model_flaw,
    similar,
)


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


KNOWN = ("smollm2", "mlx-community/Qwen3-4B-4bit", "mlx-community/Qwen3-8B-4bit", "embedder")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("smolm2", ("smollm2",)),
        ("SmolLM2", ("smollm2",)),
        ("qwen3-4b-4bits", (KNOWN[1], KNOWN[2])),
        ("mlx-comunity/qwen3-8b-4bit", (KNOWN[2], KNOWN[1])),
        ("smollm2", ()),
        ("llama", ()),
        ("q", ()),
        ("", ()),
    ],
)
def test_only_near_names_are_offered_the_nearest_first(name: str, meant: tuple[str, ...]) -> None:
    assert similar(name, KNOWN) == meant


def test_at_most_three_are_offered() -> None:
    assert len(similar("model-0", [f"model-{n}" for n in range(1, 9)])) == 3


def test_however_many_names_there_are_so_many_are_compared() -> None:
    names = [f"organisation/model-{n:05}-4bit" for n in range(100_000)]
    began = time.process_time()
    assert similar(names[5][:-1], names)
    assert not similar("organisation/xxxxx-00099-8bit", names[MAX_COMPARED:][:0])
    assert time.process_time() - began < 1


def test_what_was_meant_is_asked_before_what_to_do() -> None:
    assert did_you_mean(()) == ""
    assert did_you_mean(("a", "b", "c")) == " Did you mean 'a', 'b' or 'c'?"
    assert "is not served. Did you mean 'a'? Name a model" in str(model_unknown("b", ("a",)))
    words = str(not_on_disk("b", "org/b", ("a", "c")))
    assert "this machine. Did you mean 'a' or 'c'? Else run 'pool-service pull b', or" in words
    assert "this machine. Run 'pool-service pull b', or" in str(not_on_disk("b", "org/b"))
    assert "pull b' if the model hub has it by that name" in str(not_on_disk("b", "b"))


def test_names_that_are_too_long_are_not_kept() -> None:
    """A caller may send thousands of them, each of some kilobytes."""
    kept = _flaw_of_short_name.cache_info().currsize
    assert model_flaw("x" * (MAX_MODEL_BYTES + 1)) is not None
    assert _flaw_of_short_name.cache_info().currsize == kept
