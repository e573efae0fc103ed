"""Where one scenario is played for one language: its runner, its world and what was said."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tests.conformance.expected import Json, filled
from tests.conformance.runners import Call, Runner
from tests.conformance.worlds import World

NAMES_OF_CALLS = ("client", "hold", "target")
"""Fields of a command that hold the id of another."""


class Place(Protocol):
    """Something with an address."""

    @property
    def address(self) -> str: ...


@dataclass(slots=True)
class Stage:
    """One scenario for one language.

    prefix: begins the names of all its models; texts: what `{name}` stands for; said: the
    results and events that steps gave a name; stack: what is closed at the end.
    """

    runner: Runner
    place: Place
    prefix: str
    directory: Path
    texts: Mapping[str, str]
    calls: dict[str, Call] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def world(self) -> World:
        """The place, which is a real service."""
        assert isinstance(self.place, World)
        return self.place

    def fill(self, text: str) -> str:
        """With `{m}` and the like in it replaced."""
        for name, value in self.texts.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def fill_all(self, pattern: object) -> Any:
        return filled(pattern, self.fill, self.said)

    def begin(self, op: str, fields: Mapping[str, Any], name: str = "") -> Call:
        """Let the runner begin a command."""
        told: Json = self.fill_all(fields)
        for field_name in NAMES_OF_CALLS:
            if field_name in told:
                told[field_name] = self.calls[told[field_name]].number
        if op == "close":
            del self.calls[fields["client"]]
        call = self.runner.begin(op, **told)
        if name:
            self.calls[name] = call
        return call

    def own_models(self, servers: Mapping[str, Any]) -> dict[str, Any]:
        """Of the pool what belongs to this scenario."""
        return {model: one for model, one in servers.items() if model.startswith(self.prefix)}
