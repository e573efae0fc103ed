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

    def aliases_of_models(self) -> dict[str, tuple[str, ...]]:
        """Return the listed models, with those that aliases stand for, and their aliases."""
        names: dict[str, tuple[str, ...]] = dict.fromkeys(self.models, ())
        for alias, model in sorted(self.aliases.items()):
            names[model] = (*names.get(model, ()), alias)
        return names


@dataclass(frozen=True, slots=True)
class Found:
    """The models that are known though the configuration does not list them.

    kept: models that callers pinned or named, with the runtime models named; "": none.
    cached: the ids of the models in the Hugging Face cache.
    """

    kept: Mapping[str, str] = field(default_factory=dict)
    cached: Iterable[str] = ()


def page_of_models(
    catalogue: Catalogue,
    servers: Iterable[Server],
    found: Found | None = None,
    after: str | None = None,
    size: int | None = None,
) -> list[Entry]:
    """Return the entries of known models, in alphabetical order and without estimates.

    A cached model that is the runtime model of another entry is not repeated.

    Args:
        catalogue: the listed models.
        servers: all servers of the pool.
        found: models that are returned as well, as are those with a server; None: only listed ones.
        after: begin with the first name that follows this one; None: from the beginning.
        size: the most entries that are returned; None: all.
    """
    # Only current servers: the others are not what callers of a model get.
    current = {server.model: server for server in servers if server.is_current}
    aliases = catalogue.aliases_of_models()
    names = set(aliases) if found is None else _found(catalogue, aliases, current, found)
    kept = found.kept if found is not None else {}

    def entry(model: str) -> Entry:
        server, is_listed = current.get(model), model in aliases
        if server is not None and not is_listed:
            settings = server.settings
        else:
            settings = catalogue.settings_for(model, "" if is_listed else kept.get(model, ""))
        return Entry(
            model,
            aliases.get(model, ()),
            settings,
            flaw=catalogue.why_not_served(model),
            phase=server.phase if server is not None else None,
            listed=is_listed,
        )

    # Making the entries takes longest, so only those of the page are made.
    return [entry(name) for name in sorted(n for n in names if after is None or n > after)[:size]]


def _found(
    catalogue: Catalogue,
    listed: Iterable[str],
    current: Mapping[str, Server],
    found: Found,
) -> set[str]:
    """Return the names of all known models."""
    loaded = {model: catalogue.configured(model) for model in listed}
    for model, server in current.items():
        loaded.setdefault(model, server.settings.runtime_model)
    for model, runtime_model in found.kept.items():
        loaded.setdefault(model, runtime_model or catalogue.configured(model))
    others = set(found.cached).difference(loaded.values())
    return {*loaded, *(model for model in others if model_flaw(model) is None)}
