"""Which models a caller may know of, and what its scope includes."""

import pytest

from pool_service.access.principal import LOCAL, ModelPatterns, Principal, Scope


@pytest.mark.parametrize(
    ("patterns", "names", "allowed"),
    [
        (("*",), ["anything"], True),
        (("qwen*",), ["qwen3-4b"], True),
        (("qwen*",), ["org/qwen3-4b"], False),
        (("qwen*", "assistant"), ["org/model", "assistant"], True),
        (("assistant",), ["assistant-2"], False),
        (("assistant",), ["ASSISTANT"], False),
        (("model-?",), ["model-1"], True),
        (("model-?",), ["model-12"], False),
        (("a.c",), ["abc"], False),
        (("m",), ["m\n"], False),
        ((), ["m"], False),
        ((), [""], False),
        (("*x",), ["a\nx"], True),
    ],
)
def test_a_model_is_allowed_by_its_name_or_by_an_alias(
    patterns: tuple[str, ...], names: list[str], allowed: bool
) -> None:
    assert ModelPatterns(patterns).allows(names) is allowed


def test_each_scope_includes_the_ones_below_it() -> None:
    assert Scope.READ < Scope.USE < Scope.ADMIN


def test_only_an_admin_who_may_read_logs_of_every_model_sees_all() -> None:
    assert LOCAL.sees_all
    assert not Principal("a", Scope.ADMIN).sees_all
    assert not Principal("a", Scope.USE, logs=True).sees_all
    assert not Principal("a", Scope.ADMIN, logs=True, models=ModelPatterns(("m",))).sees_all


def test_a_bracket_in_a_pattern_is_a_letter() -> None:
    patterns = ModelPatterns(("[ab]*",))
    assert patterns.allows(("[ab]c",))
    assert not patterns.allows(("ac",))
