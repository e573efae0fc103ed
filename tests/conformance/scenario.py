"""A scenario, and how it is played."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.client.scripted import Script
from tests.conformance.expected import Json, difference
from tests.conformance.kinds import Kind
from tests.conformance.languages import Language
from tests.conformance.stage import Stage
from tests.conformance.steps import Step

SCRIPTED = "a script answers in the place of the service, so that nothing is behind it"

AT_THE_PLACE = {"address": "{address}"}


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One row.

    claim: its name; world: where it is played, a real service or one that answers what is
    written in a script; steps: what is done; connect: how the client `main` is made; calls:
    the RPCs that it has begun at the end, all of them; leaves: the states of what the pool
    then has of this scenario, by model. cancels: only for who can give up any wait; home: where
    the environment of its runner leads, if to no address (see `homes.py`). no_front: why it cannot
    be played through a front.
    """

    claim: str
    world: Kind | Callable[[Script], None]
    steps: Sequence[Step]
    connect: Mapping[str, Any] = field(default_factory=dict)
    calls: Mapping[str, Any] | None = None
    leaves: Mapping[str, str] | None = None
    cancels: bool = False
    home: str = ""
    no_front: str = ""

    @property
    def left_out_of_fleets(self) -> str:
        """Why it is not played through a front; empty: it is."""
        return self.no_front if isinstance(self.world, Kind) else SCRIPTED

    def left_out(self, language: Language) -> str:
        """Why it is not for this language; empty: it is."""
        if self.cancels and not language.cancels:
            return "a thread that waits for an answer is ended by its timeout alone"
        return ""

    def play(self, stage: Stage) -> None:
        """From beginning to end. Raises AssertionError, with what was said until then."""
        try:
            self._play(stage)
        except AssertionError as error:
            said = "\n".join(f"  {name}: {value}" for name, value in stage.said.items())
            raise AssertionError(f"{error}\nbefore that:\n{said}") from error

    def _play(self, stage: Stage) -> None:
        connect = {**AT_THE_PLACE, **self.connect}
        said = {name: value for name, value in connect.items() if value is not None}
        stage.calls["main"] = stage.begin("connect", said)
        stage.calls["main"].end()
        for step in self.steps:
            step.play(stage)
        if self.calls is not None:
            self._check_calls(stage, self.calls)
        if self.leaves is not None:
            self._check_leaves(stage, stage.fill_all(self.leaves))

    def _check_calls(self, stage: Stage, expected: Mapping[str, Any]) -> None:
        made = stage.runner.ask("calls", client=stage.calls["main"].number)
        made = {**dict.fromkeys(expected, 0), **made}
        found = difference(expected, made, "calls")
        others = {name: count for name, count in made.items() if name not in expected and count}
        assert found is None, found
        assert not others, f"calls that nobody asked for: {others}"

    def _check_leaves(self, stage: Stage, expected: Json) -> None:
        """By the service's own word."""
        stage.world.await_pool(
            lambda servers: (
                {model: server.state.name for model, server in stage.own_models(servers).items()}
                == expected
            )
        )
