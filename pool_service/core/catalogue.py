"""The catalogue: the settings of each model, as configured."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pool_service.core.names import RUNTIME_PREFIX, model_flaw
from pool_service.core.server import Phase, Server
from pool_service.core.types import Estimate, Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that callers may ask for.

    estimate: None: not estimated.
    flaw: why the model cannot be started; empty if it can.
    phase: the phase of its server; None: it has none.
    listed: the configuration lists it; False: it is known otherwise.
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
    """The settings of models, as configured.

    defaults: the settings of models that are not listed; their runtime model is empty.
    models: the settings of each listed model.
    aliases: other names of models, with their models.
    only_listed: models that are not listed are refused.
    home_model: the name or alias of the home model; empty: there is none.
    section_keys: the keys that the section of a listed model sets.
    default_origins: of the defaults' keys that are set, the section, variable or flag that does so.
    """

    defaults: Settings = field(default_factory=lambda: Settings(runtime_model=""))
    models: Mapping[str, Settings] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    only_listed: bool = False
    home_model: str = ""
    section_keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    default_origins: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> str:
        """The home model, which comes back in quiet times; empty: there is none."""
        return self.resolve(self.home_model)

    def resolve(self, name: str) -> str:
        """Return the model that a name or alias stands for."""
        return self.aliases.get(name, name)

    def serves(self, model: str, runtime_model: str = "") -> bool:
        """Return whether the catalogue allows `model`, as `runtime_model` if that is named."""
        if not self.only_listed:
            return True
        return model in self.models and runtime_model in ("", self.configured(model))

    def why_not_served(self, model: str) -> str:
        """Return in words why callers do not get `model` by its name; empty if they do."""
        meant = self.resolve(model)
        if meant != model:
            return f"its name stands for {meant!r} now, so it is not served"
        if not self.serves(model):
            return "it is not listed, and only_listed is set, so it is not served"
        return ""

    def configured(self, model: str) -> str:
        """Return the runtime model of `model` if no caller names another.

        The one of its section, else the model's own name without a leading "vllm-mlx/".
        """
        section = self.models.get(model, self.defaults)
        return section.runtime_model or model.removeprefix(RUNTIME_PREFIX)

    def settings_for(self, model: str, runtime_model: str = "") -> Settings:
        """Return the settings of `model`, with the `runtime_model` that a caller names, if any.

        The settings of a section apply only to the runtime model that it names, compared as text:
        with another one, the defaults apply. Whether two spellings mean the same files is not
        asked, since the answer could change before the load.
        """
        configured = self.configured(model)
        chosen = runtime_model or configured
        is_own = chosen == configured
        section = self.models.get(model, self.defaults) if is_own else self.defaults
        is_home = model == self.home
        return replace(section, runtime_model=chosen, asked=not is_own, home=is_home)

    def preloaded(self) -> list[str]:
        """Return the models that are started with the service."""
        return [model for model, settings in self.models.items() if settings.preload]

    def entries(self) -> list[Entry]:
        """Return the listed models in alphabetical order, without estimates."""
        names: dict[str, list[str]] = {model: [] for model in sorted(self.models)}
        for alias, model in sorted(self.aliases.items()):
            names.setdefault(model, []).append(alias)
        return [
            Entry(model, tuple(aliases), self.settings_for(model))
            for model, aliases in names.items()
        ]


def known_entries(
    catalogue: Catalogue,
    servers: Iterable[Server],
    kept: Mapping[str, str],
    cached: Iterable[str],
) -> list[Entry]:
    """Return the entries of all known models: listed, with a server, kept in mind, or cached.

    They are in alphabetical order. A cached model that is the runtime model of another entry is
    not repeated.

    Args:
        catalogue: the listed models.
        servers: all servers of the pool.
        kept: models that callers pinned or named, with the runtime models named; "": none.
        cached: the ids of the models in the Hugging Face cache.
    """
    entries = {entry.model: entry for entry in catalogue.entries()}
    # Only current servers: the others are not what callers of a model get.
    current = {server.model: server for server in servers if server.is_current}
    for model, server in current.items():
        entries.setdefault(model, Entry(model, (), server.settings, listed=False))
    for model, runtime_model in kept.items():
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
            phase=current[model].phase if model in current else None,
            flaw=catalogue.why_not_served(model),
        )
        for model, entry in sorted(entries.items())
    ]
