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
        self._holders: dict[str, set[str]] = {}
        self._meanings: dict[str, tuple[int, str]] = {}
        self._aliases: dict[str, dict[str, None]] = {}

    def join(self, host: str) -> None:
        """Add a member, which has told no names yet."""
        self._ranks[host], self._told[host] = next(self._order), {}

    def tell(self, host: str, meanings: Mapping[str, str]) -> None:
        """Note what the aliases of a member mean, in the place of what it has told before."""
        for alias in self._told[host]:
            self._withdraw(host, alias)
        self._told[host] = meanings
        rank = self._ranks[host]
        for alias, model in meanings.items():
            self._holders.setdefault(alias, set()).add(host)
            if alias not in self._meanings or rank < self._meanings[alias][0]:
                self._mean(alias, rank, model)

    def leave(self, host: str) -> None:
        """Forget a member."""
        self.tell(host, {})
        del self._ranks[host], self._told[host]

    def resolve(self, name: str) -> str:
        """Return the model that a name means."""
        meaning = self._meanings.get(name)
        return name if meaning is None else meaning[1]

    def aliases_of(self, model: str) -> tuple[str, ...]:
        """Return the aliases of a model."""
        return tuple(self._aliases.get(model, ()))

    def _withdraw(self, host: str, alias: str) -> None:
        """Take a member from those that have an alias; let the next one say what it means."""
        holders = self._holders[alias]
        holders.remove(host)
        if self._meanings[alias][0] != self._ranks[host]:
            return
        self._forget(alias)
        if holders:
            rank, first = min((self._ranks[one], one) for one in holders)
            self._mean(alias, rank, self._told[first][alias])
        else:
            del self._holders[alias]

    def _mean(self, alias: str, rank: int, model: str) -> None:
        self._forget(alias)
        self._meanings[alias] = rank, model
        self._aliases.setdefault(model, {})[alias] = None

    def _forget(self, alias: str) -> None:
        _, model = self._meanings.pop(alias, (0, None))
        if model is not None:
            del self._aliases[model][alias]
            if not self._aliases[model]:
                del self._aliases[model]
