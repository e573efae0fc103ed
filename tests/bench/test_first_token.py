import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import pytest

from tools.bench import by_hand, first_token, llama_swap
from tools.bench.chat import Answer, Messages, content_of
from tools.bench.swapped_back import (
    AIM,
    AIM_SAME_OPTIONS,
    KINDS,
    SAME_OPTIONS,
    AnswerDiffersError,
    Models,
    Questions,
    default_options,
    figures,
    prompt,
)
from tools.bench.turns import in_turn


class Fake:
    """A way to serve models that answers from a list."""

    def __init__(self, answers: Sequence[str]) -> None:
        self.done: list[int] = []
        self.asked: list[Messages] = []
        self._answers = iter(answers)

    def prepare(self, kind: int) -> None:
        self.done.append(kind)

    def ask(self, messages: Messages) -> Answer:
        self.asked.append(messages)
        return Answer(0.0, next(self._answers))


def test_only_content_counts_as_a_token() -> None:
    lines = [
        b"",
        b": a comment\n",
        b"data: [DONE]\n",
        b'data: {"choices": []}\n',
        b'data: {"choices": [{"delta": {"role": "assistant"}}]}\n',
        b'data: {"choices": [{"delta": {"content": ""}}]}\n',
    ]
    assert [content_of(line) for line in lines] == [""] * len(lines)
    assert content_of(b'data: {"choices": [{"delta": {"content": "a b"}}]}\n') == "a b"


def test_all_questions_share_their_beginning_and_none_is_asked_twice() -> None:
    asked = [prompt(200, turn, kind) for turn in range(4) for kind in range(len(KINDS))]
    assert len({messages[0]["content"] for messages in asked}) == 1
    assert len({messages[1]["content"] for messages in asked}) == len(asked)


def test_each_kind_is_answered_without_kept_prompts_once_in_three_turns() -> None:
    plain, kept = Fake("abc"), Fake("a--")
    questions = Questions(200)
    in_turn(3, questions.measure(plain, range(3)), warm_ups=0)
    in_turn(1, questions.measure(kept, [0]), warm_ups=0)
    assert plain.done == [0, 1, 2]
    assert plain.asked[0] == kept.asked[0]


def test_another_answer_to_the_same_question_fails_the_run() -> None:
    plain, kept = Fake("ab"), Fake("ax")
    questions = Questions(200)
    measures = questions.measure(plain, [0]), questions.measure(kept, [0])
    words = "turn 1, swapped out and back: 'x' and 'b'"
    with pytest.raises(AnswerDiffersError, match=words):
        in_turn(2, *measures, warm_ups=0)


def test_each_kind_is_compared_with_its_own_baseline_or_with_the_only_one() -> None:
    found: list[tuple[float, ...]] = [(1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 40.0, 50.0)] * 2
    counts = {by_hand.SAME_OPTIONS: 1, SAME_OPTIONS: 3, llama_swap.DEFAULTS: 1}
    seen = [(one.against, one.measured, one.baseline, one.aim) for one in figures(9, found, counts)]
    assert seen == [
        *((by_hand.SAME_OPTIONS, mine, 10.0, None) for mine in (1.0, 2.0, 3.0)),
        (SAME_OPTIONS, 1.0, 20.0, AIM_SAME_OPTIONS),
        (SAME_OPTIONS, 2.0, 30.0, AIM_SAME_OPTIONS),
        (SAME_OPTIONS, 3.0, 40.0, AIM_SAME_OPTIONS),
        *((llama_swap.DEFAULTS, mine, 50.0, AIM) for mine in (1.0, 2.0, 3.0)),
    ]


def test_the_last_of_those_that_are_asked_at_once_counts() -> None:
    ends = {"a": 1e9, "b": 3e9, "c": 2e9}
    assert first_token.last_of(ends.__getitem__, [*ends]) > 2.5e9


def test_llama_swap_gets_the_same_command_as_the_service_gives_with_its_own_port() -> None:
    models = Models(Path("/a model"), Path("/b"), by_hand.our_options)
    written = json.loads(
        llama_swap.configuration(models.commands, Path("/home"), one_at_a_time=True)
    )
    command = shlex.split(written["models"]["bench/asked"]["cmd"].replace("${PORT}", "1"))
    assert command[1:5] == ["serve", "/a model", "--port", "1"]
    assert command[5:] == by_hand.our_options("bench/asked")
    assert "--continuous-batching" in command
    (group,) = written["routing"]["router"]["settings"]["groups"].values()
    assert group == {"swap": True, "exclusive": True, "members": [*written["models"]]}


def test_with_the_defaults_of_the_runtime_nothing_but_the_name_is_given() -> None:
    models = Models(Path("/a"), Path("/b"), default_options)
    assert models.commands["bench/asked"][-2:] == ["--served-model-name", "bench/asked"]
    assert "--continuous-batching" not in models.commands["bench/asked"]


def test_the_version_of_llama_swap_is_what_it_tells_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert llama_swap.version() == "none"
    program = tmp_path / "llama-swap"
    program.write_text("#!/bin/sh\necho 'version: 231 (0bdb372), built at 2026-08-22'\n")
    program.chmod(0o755)
    assert llama_swap.version() == "231 (0bdb372)"
