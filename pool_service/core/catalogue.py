"""What the configuration says of each model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pool_service.core.types import Appraisal, Settings

RUNTIME_PREFIX = "vllm-mlx/"


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed model; flaw: why it cannot be appraised, empty if it can."""

    model: str
    aliases: tuple[str, ...]
    settings: Settings
    appraisal: Appraisal | None = None
    flaw: str = ""


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

    def serves(self, model: str) -> bool:
        """Whether it may be started at all."""
        return not self.only_listed or model in self.models

    def settings_for(self, model: str, runtime_model: str = "") -> Settings:
        """How `model` is run; a `runtime_model` given by the caller goes first.

        Without one it is the configuration's, else the model's own name without
        a leading "vllm-mlx/".
        """
        settings = self.models.get(model, self.defaults)
        configured = settings.runtime_model or model.removeprefix(RUNTIME_PREFIX)
        chosen = runtime_model or configured
        return replace(settings, runtime_model=chosen, asked=chosen != configured)

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
