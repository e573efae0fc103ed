"""What the configuration says of each model."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pool_service.core.names import RUNTIME_PREFIX, model_flaw
from pool_service.core.server import Phase, Server
from pool_service.core.types import Estimate, Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that callers may ask for.

    flaw: why it cannot be appraised, empty if it can; phase: of its server, if it has one;
    listed: by the configuration, and not merely found.
    """

    model: str
    aliases: tuple[str, ...]
    settings: Settings
    estimate: Estimate | None = None
    flaw: str = ""
    phase: Phase | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Settings by model, and the defaults (whose runtime model is empty).

    aliases: other names of models; only_listed: no other model is served.
    """

    defaults: Settings = field(default_factory=lambda: Settings(runtime_model=""))
    models: Mapping[str, Settings] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    only_listed: bool = False

    def resolve(self, name: str) -> str:
        """The model that a caller's name means."""
        return self.aliases.get(name, name)

    def serves(self, model: str, runtime_model: str = "") -> bool:
        """Return whether `model` may be started, as the `runtime_model` that a caller names."""
        if not self.only_listed:
            return True
        return model in self.models and runtime_model in ("", self.configured(model))

    def configured(self, model: str) -> str:
        """Return the runtime model of `model` as long as no caller names another.

        It is the one of its section, else its own name without a leading "vllm-mlx/".
        """
        section = self.models.get(model, self.defaults)
        return section.runtime_model or model.removeprefix(RUNTIME_PREFIX)

    def settings_for(self, model: str, runtime_model: str = "") -> Settings:
        """Return how `model` is run; a `runtime_model` given by the caller goes first.

        A section speaks of the runtime model that it names, in the same words, and of no other:
        what else a caller names under its name is run as a model without a section. Whether two
        spellings mean the same files could change between the question and the load.
        """
        configured = self.configured(model)
        chosen = runtime_model or configured
        is_own = chosen == configured
        section = self.models.get(model, self.defaults) if is_own else self.defaults
        return replace(section, runtime_model=chosen, asked=not is_own)

    def preloaded(self) -> list[str]:
        """The models that are started with the service."""
        return [model for model, settings in self.models.items() if settings.preload]

    def entries(self) -> list[Entry]:
        """What is listed, in the order of the models, not appraised."""
        names: dict[str, list[str]] = {model: [] for model in sorted(self.models)}
        for alias, model in sorted(self.aliases.items()):
            names.setdefault(model, []).append(alias)
        return [
            Entry(model, tuple(aliases), self.settings_for(model))
            for model, aliases in names.items()
        ]


UNLISTED = "it is not listed, and only_listed is set, so it is not served"


def found(
    catalogue: Catalogue,
    servers: Iterable[Server],
    named: Mapping[str, str],
    cached: Iterable[str],
) -> list[Entry]:
    """Return the listed models and, besides, all that are known, by their names.

    A model of the cache that another one loads is that one, and not shown again.

    Args:
        catalogue: what is listed.
        servers: all servers of the pool.
        named: the runtime models that callers named, by their models.
        cached: the ids of the models in the cache of the hub.
    """
    entries = {entry.model: entry for entry in catalogue.entries()}
    # What runs beside its model's server has a name that is nobody's to ask for.
    asked = {server.model: server for server in servers if server.is_current}
    for model, server in asked.items():
        entries.setdefault(model, Entry(model, (), server.settings, listed=False))
    for model, runtime_model in named.items():
        settings = catalogue.settings_for(model, runtime_model)
        entries.setdefault(model, Entry(model, (), settings, listed=False))
    loaded = {entry.settings.runtime_model for entry in entries.values()}
    for model in cached:
        if model not in loaded and model_flaw(model) is None:
            settings = catalogue.settings_for(model)
            entries.setdefault(model, Entry(model, (), settings, listed=False))
    return [
        replace(
            entry,
            phase=asked[model].phase if model in asked else None,
            flaw="" if catalogue.serves(model) else UNLISTED,
        )
        for model, entry in sorted(entries.items())
    ]
