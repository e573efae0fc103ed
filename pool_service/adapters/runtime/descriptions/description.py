"""The description of a program that serves models, and its command with what the pool needs. Pure.

A command in the configuration may be the program's name alone, or have any of the options itself.
What it says is kept, and only what it lacks is added: an argument by position directly behind the
words that start the program, options at the end, as one of several values may stand before them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from pool_service.adapters.runtime.launch_plan import option_names, option_value
from pool_service.core.activity import UseSignals

PYTHON = "python"
"""Stands for any Python interpreter at the beginning of a command."""

MODEL = "{runtime_model}"
PORT = "{port}"
SERVED = "{model}"

_PYTHON = re.compile(r"python[\d.]*")

NO_REFUSALS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Option:
    """An option that the pool adds to the command of a program, unless the command has it.

    names: its spellings, of which the pool writes the first; "" for an argument by position.
    value: a template of its value; empty: it takes none.
    hub_name: the spelling for a model that is no path; empty: the first name.
    """

    names: tuple[str, ...]
    value: str = ""
    hub_name: str = ""

    def words(self, runtime_model: str) -> tuple[str, ...]:
        """Return the option as words of a command that loads this model."""
        by_id = self.hub_name and not Path(runtime_model).is_absolute()
        name = self.hub_name if by_id else self.names[0]
        return tuple(word for word in (name, self.value) if word)

    @property
    def by_position(self) -> bool:
        """Whether it is no option, but an argument behind the words that start the program."""
        return "" in self.names

    def is_in(self, words: Sequence[str]) -> bool:
        """Return whether a command has the option. words: without the values of served names."""
        spellings = {*map(plain, self.names), plain(self.hub_name)} - {""}
        if not spellings.isdisjoint(map(plain, option_names(words))):
            return True
        is_first = bool(words) and not words[0].startswith("-")
        return self.by_position and (is_first or self.value in words)


@dataclass(frozen=True, slots=True)
class ProgramDescription:
    """Describes what the pool needs of a program that serves one model per process.

    name: as its makers write it.
    starts: the ways to begin its command; a program's words after the first may be left out if the
        command has nothing else.
    options: those that the pool adds, in this order.
    served_names: the spellings of the option that tells the program its served name; empty: it
        answers to its runtime model.
    refused: the options that a model's arguments may not have, and why.
    health_path: answers 200 once the model is loaded; without a key.
    ready_path, ready_body: one request that must be answered before the server is READY; empty:
        none.
    use: where it tells its requests in flight, and numbers that change with each request.
    drains: it finishes its requests after SIGTERM.
    key_variable: the variable in which it reads the key that requests must show; empty: none.
    key_options: the options by which it gets a key otherwise.
    maps_weights: it maps the file of its weights into memory, so that they are not in the memory
        that its process is seen to take, though it needs them there.
    source: where these facts come from, and for which version they were seen.
    """

    name: str
    starts: tuple[tuple[str, ...], ...]
    options: tuple[Option, ...]
    served_names: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=lambda: NO_REFUSALS)
    health_path: str = "/health"
    ready_path: str = ""
    ready_body: str = ""
    use: UseSignals = field(default_factory=UseSignals)
    drains: bool = False
    key_variable: str = ""
    key_options: tuple[str, ...] = ()
    maps_weights: bool = False
    source: str = ""

    @property
    def default_served(self) -> str:
        """The template of the served name that it gets if the configuration names none."""
        return SERVED if self.served_names else MODEL

    def start_of(self, command: Sequence[str]) -> tuple[str, ...] | None:
        """Return the words that start the program, as in a command; None if it is another one.

        Words that a command of one word leaves out are there.
        """
        for start in self.starts:
            # The interpreter alone starts no program.
            words = start if len(command) > 1 or start[0] == PYTHON else start[:1]
            if len(command) >= len(words) and all(map(_is_word, command, words)):
                return (command[0], *start[1:])
        return None

    def completed(
        self, command: Sequence[str], arguments: Sequence[str], served: str, runtime_model: str
    ) -> tuple[str, ...]:
        """Return a command, which starts the program, with the options that it lacks.

        arguments: those of the model. served: the template of the served name.
        """
        start = self.start_of(command) or tuple(command[:1])
        words = (*command[len(start) :], *arguments)
        wanted = [Option(self.served_names, served)] if self.served_names else []
        others = self._without_served_names(words)
        missing = [one for one in (*self.options, *wanted) if not one.is_in(others)]
        model = (word for one in missing if one.by_position for word in one.words(runtime_model))
        more = (word for one in missing if not one.by_position for word in one.words(runtime_model))
        # What follows a `--` is no option any more.
        end = words.index("--") if "--" in words else len(words)
        return (*start, *model, *words[:end], *more, *words[end:])

    def _without_served_names(self, words: Sequence[str]) -> list[str]:
        """Return words of a command without the values of served names, which can be the model."""
        before = ("", *words)
        return [
            word
            for word, option in zip(words, before, strict=False)
            if option not in self.served_names
        ]

    def served_name(self, command: Sequence[str]) -> str | None:
        """Return the served name that a command tells the program; None if it tells none."""
        found = (option_value(command, name) for name in self.served_names)
        return next((name for name in found if name), None)

    def refusals(self, arguments: Sequence[str]) -> Iterator[str]:
        """Yield what of a model's arguments is refused, in words."""
        refused = {plain(name): why for name, why in self.refused.items()}
        names = (argument.partition("=")[0] for argument in arguments)
        yield from (
            f"{name} cannot be set there: {refused[plain(name)]}"
            for name in names
            if plain(name) in refused
        )


def plain(name: str) -> str:
    """Return the name of an option as all its spellings with - and _ have it in common."""
    return name.replace("_", "-")


def _is_word(word: str, wanted: str) -> bool:
    """Return whether a word of a command is one that starts a program, which may be a path."""
    name = Path(word).name
    return _PYTHON.fullmatch(name) is not None if wanted == PYTHON else name == wanted
