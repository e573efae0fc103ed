"""Names: which model each alias means, of what all members list."""

from collections.abc import Mapping
from itertools import count


class Names:
    """The aliases of all members. Of several meanings that of the member counts that joined first.

    A change costs by the aliases of one member, not by those of all.
    """

    def __init__(self) -> None:
        self._order = count()
        self._ranks: dict[str, int] = {}
        self._told: dict[str, Mapping[str, str]] = {}
        self._first: dict[str, str] = {}
        """The member whose meaning of an alias counts."""
        self._others: dict[str, set[str]] = {}
        """The other members that have an alias, if there are any."""
        self._aliases: dict[str, tuple[str, ...]] = {}

    def join(self, host: str) -> None:
        """Add a member, which has told no names yet."""
        self._ranks[host], self._told[host] = next(self._order), {}

    def tell(self, host: str, meanings: Mapping[str, str]) -> None:
        """Note what the aliases of a member mean, in the place of what it has told before."""
        for alias in self._told[host]:
            self._withdraw(host, alias)
        self._told[host] = meanings
        for alias in meanings:
            self._add(host, alias)

    def leave(self, host: str) -> None:
        """Forget a member."""
        self.tell(host, {})
        del self._ranks[host], self._told[host]

    def resolve(self, name: str) -> str:
        """Return the model that a name means."""
        host = self._first.get(name)
        return name if host is None else self._told[host][name]

    def aliases_of(self, model: str) -> tuple[str, ...]:
        """Return the aliases of a model."""
        return self._aliases.get(model, ())

    def _add(self, host: str, alias: str) -> None:
        first = self._first.get(alias)
        if first is None:
            self._count(alias, host)
            return
        if self._ranks[host] < self._ranks[first]:
            self._count_no_more(alias)
            self._count(alias, host)
            host = first
        self._others.setdefault(alias, set()).add(host)

    def _withdraw(self, host: str, alias: str) -> None:
        """Take an alias from a member; the next one that has it says what it means."""
        others = self._others.get(alias, set())
        if self._first[alias] == host:
            self._count_no_more(alias)
            if not others:
                return
            host = min(others, key=lambda one: self._ranks[one])
            self._count(alias, host)
        others.remove(host)
        if not others:
            del self._others[alias]

    def _count(self, alias: str, host: str) -> None:
        self._first[alias] = host
        model = self._told[host][alias]
        self._aliases[model] = (*self._aliases.get(model, ()), alias)

    def _count_no_more(self, alias: str) -> None:
        model = self._told[self._first.pop(alias)][alias]
        left = tuple(one for one in self._aliases[model] if one != alias)
        if left:
            self._aliases[model] = left
        else:
            del self._aliases[model]
