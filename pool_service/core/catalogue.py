"""What the configuration says of each model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pool_service.core.types import Settings

RUNTIME_PREFIX = "vllm-mlx/"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Settings by model, and the defaults (whose runtime model is empty)."""

    defaults: Settings = field(default_factory=lambda: Settings(runtime_model=""))
    models: Mapping[str, Settings] = field(default_factory=dict)

    def settings_for(self, model: str, runtime_model: str = "") -> Settings:
        """How `model` is run; a `runtime_model` given by the caller goes first.

        Without one it is the configuration's, else the model's own name without
        a leading "vllm-mlx/".
        """
        settings = self.models.get(model, self.defaults)
        chosen = runtime_model or settings.runtime_model or model.removeprefix(RUNTIME_PREFIX)
        return replace(settings, runtime_model=chosen)
