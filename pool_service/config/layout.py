"""The layout of a configuration: what differs between that of a service and that of a front."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

C = TypeVar("C", bound=BaseModel)

Places = Mapping[tuple[str, ...], str]
"""The variables and flags that set keys, by the path of the key: ("service", "listen")."""


def _without_places(config: C, _places: Places) -> C:
    return config


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout(Generic[C]):
    """The keys of a file and of its variables, and the rules that they follow together.

    root: the type of the whole configuration.
    main: the section whose keys have variables and flags without the section's name.
    prefix: the beginning of each variable.
    contradictions: yields each key that contradicts another, with what is wrong and what to do.
    with_places: adds to a configuration the variables and flags that set some of its keys.
    harm: what other users could change by the file, for the error that refuses such a file.
    renamed: the present names of keys that were called otherwise; errors suggest them.
    short: the tables of tables in which a text may stand for a table.
    """

    root: type[C]
    main: str
    prefix: str
    contradictions: Callable[[C], Iterable[tuple[tuple[str, ...], str]]]
    with_places: Callable[[C, Places], C] = _without_places
    harm: str
    renamed: Mapping[str, str] = field(default_factory=dict)
    short: frozenset[str] = frozenset()

    @property
    def file_variable(self) -> str:
        """The variable that names the file."""
        return f"{self.prefix}CONFIG"
