"""What the configuration says of each model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pool_service.core.server import Phase
from pool_service.core.types import Appraisal, Settings

RUNTIME_PREFIX = "vllm-mlx/"


@dataclass(frozen=True, slots=True)
class Entry:
    """A model that callers may ask for.

    flaw: why it cannot be appraised, empty if it can; phase: of its server, if it has one;
    listed: by the configuration, and not merely found.
    """

    model: str
    aliases: tuple[str, ...]
    settings: Settings
    appraisal: Appraisal | None = None
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
