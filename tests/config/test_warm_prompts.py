"""The system prompts of a model that its servers compute before they are READY."""

import json

import pytest

from tests.config.conftest import Read, Refusal

PROMPTS = '[models.m]\nwarm_prompts = ["Be brief."]\n'


def test_the_warm_prompts_of_a_model_are_its_own(read: Read) -> None:
    catalogue = read(PROMPTS).catalogue
    assert catalogue.settings_for("m").warm_prompts == ("Be brief.",)
    assert catalogue.settings_for("another").warm_prompts == ()


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ("Be brief.", 'must be a list of texts, such as ["You are a pirate."], not "Be brief."'),
        ([" \n"], "has a prompt without text"),
        (["a", "b", "a"], "has the same prompt more than once"),
        ([str(n) for n in range(9)], "has 9 prompts, and at most 8 are computed"),
        (["a" * 200_000, "b" * 100_000], "has 293 KiB of text, and at most 256 KiB are computed"),
    ],
    ids=["no list", "blank", "twice", "too many", "too long"],
)
def test_prompts_that_no_server_could_compute_are_refused(
    refusal: Refusal, prompts: object, told: str
) -> None:
    text = f"[models.m]\nwarm_prompts = {json.dumps(prompts)}"
    assert refusal(text) == f'models."m".warm_prompts: {told}'


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (
            'runtime = "other"\n[runtimes.other]\ncommand = ["serve"]',
            "is for vllm-mlx, and the model has another runtime; remove it",
        ),
        (
            'arguments = ["--warm-prompts=/x.json"]',
            "is set beside the argument --warm-prompts; remove one",
        ),
        (
            "prompt_cache = false",
            (
                "has no effect without --continuous-batching, which is not added while "
                "prompt_cache is false; add it yourself, or remove this"
            ),
        ),
        (
            'arguments = ["--enable-mtp"]',
            (
                "has no effect without --continuous-batching, which is not added beside "
                "--enable-mtp; add it yourself, or remove this"
            ),
        ),
        (
            (
                'runtime = "own"\n[runtimes.own]\nkind = "vllm-mlx"\n'
                'command = ["wrap", "{runtime_model}", "--port", "{port}"]'
            ),
            (
                "has no effect without --continuous-batching, which is not added for a program "
                "that is not vllm-mlx itself; add it yourself, or remove this"
            ),
        ),
    ],
)
def test_prompts_that_a_server_would_not_use_are_refused(
    refusal: Refusal, more: str, told: str
) -> None:
    assert refusal(PROMPTS + more) == f'models."m".warm_prompts: {told}'


def test_batching_alone_is_enough_for_warm_prompts(read: Read) -> None:
    config = read(PROMPTS + 'prompt_cache = false\narguments = ["--continuous-batching"]')
    assert config.catalogue.settings_for("m").warm_prompts
