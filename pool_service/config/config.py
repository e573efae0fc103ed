"""The whole configuration, and what the parts of the service are built from."""

from collections.abc import Mapping
from dataclasses import fields, replace

from pydantic import Field

from pool_service.adapters.runtime.program import RuntimeOptions
from pool_service.config.config_hash import config_hash_of
from pool_service.config.runtime_section import RuntimeSection
from pool_service.config.schema import (
    DefaultsSection,
    GroupSection,
    LogsSection,
    MemorySection,
    ModelSection,
    ServiceSection,
)
from pool_service.config.sizes import Share
from pool_service.config.types import ModelName, RuntimeName, Section, SectionName
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.types import Settings

RESERVED_SHARE = Share(5)
MOST_RESERVED = 2 * 1024**3
"""Bytes; what a desktop and its file cache live on, of which a large machine needs no more."""


class Config(Section):
    """All that can be configured, validated; what the composition root builds from."""

    service: ServiceSection
    memory: MemorySection
    runtime: RuntimeSection
    runtimes: Mapping[RuntimeName, RuntimeSection] = Field(default_factory=dict)
    logs: LogsSection
    defaults: DefaultsSection
    groups: Mapping[SectionName, GroupSection] = Field(default_factory=dict)
    models: Mapping[ModelName, ModelSection] = Field(default_factory=dict)

    def limits(self, total: int, default_budget: int) -> Limits:
        """Return what holds for the pool as a whole.

        total: bytes of memory that the machine has, of which shares are taken;
        default_budget: bytes, where no budget is set.
        """
        names = {field.name for field in fields(Limits)}
        said = {
            key: getattr(section, key)
            for section in (self.service, self.memory)
            for key in names & type(section).model_fields.keys()
        }
        budget, reserve = self.memory.budget, self.memory.reserve
        if reserve is None:
            reserve = min(RESERVED_SHARE.of(total), MOST_RESERVED)
        return Limits(
            **said,
            memory_budget=_resolved(default_budget if budget is None else budget, total),
            memory_reserve=int(_resolved(reserve, total)),
            groups={name: group.limit for name, group in self.groups.items()},
        )

    @property
    def catalogue(self) -> Catalogue:
        """The settings of each model, and those of all others."""
        runtimes, defaults = self.all_runtime_options, self.default_settings

        def complete(settings: Settings) -> Settings:
            return replace(
                settings, config_hash=config_hash_of(runtimes[settings.runtime], settings)
            )

        return Catalogue(
            complete(defaults),
            {
                name: complete(model.named_over(name, defaults))
                for name, model in self.models.items()
            },
            {alias: name for name, model in self.models.items() for alias in model.aliases},
            self.service.only_listed,
        )

    @property
    def runtime_options(self) -> RuntimeOptions:
        """Which program serves models that name no runtime, and where it is installed."""
        return self._options(self.runtime)

    @property
    def all_runtime_options(self) -> Mapping[str, RuntimeOptions]:
        """The options of each runtime by its name, which is empty for the default one."""
        named = {name: self._options(section) for name, section in self.runtimes.items()}
        return {"": self.runtime_options} | named

    @property
    def default_settings(self) -> Settings:
        """The settings of models that have no section, but for the config_hash."""
        return self.defaults.over(Settings(runtime_model=""))

    def _options(self, section: RuntimeSection) -> RuntimeOptions:
        service = self.service
        return RuntimeOptions(
            data_dir=service.data_dir,
            trusted_directories=service.trusted_directories,
            **dict(section),
        )


def _resolved(amount: float | Share, total: int) -> float:
    return amount.of(total) if isinstance(amount, Share) else amount
