"""The validated configuration, and the values that the service is built from."""

import os
from collections.abc import Mapping
from dataclasses import fields, replace

from pydantic import Field, PrivateAttr

from pool_service.adapters.runtime.runtime_options import RuntimeOptions, whole_command
from pool_service.config.auth_section import AuthSection
from pool_service.config.client_section import ClientSection
from pool_service.config.config_hash import config_hash_of
from pool_service.config.etcd_section import EtcdSection
from pool_service.config.fleet_section import FleetSection
from pool_service.config.runtime_section import RuntimeSection
from pool_service.config.schema import (
    DefaultsSection,
    GroupSection,
    HttpSection,
    LogsSection,
    MemorySection,
    ModelSection,
)
from pool_service.config.server_types import ModelName, RuntimeName
from pool_service.config.service_section import ServiceSection
from pool_service.config.sizes import Share
from pool_service.config.tls_section import TlsSection
from pool_service.config.trace_section import TraceSection
from pool_service.config.types import Section, SectionName
from pool_service.core.catalogue import Catalogue
from pool_service.core.limits import Limits
from pool_service.core.types import Settings

DEFAULT_RESERVE = Share(5)
"""Five percent of the machine's memory."""

MAX_DEFAULT_RESERVE_BYTES = 2 * 1024**3
"""Enough for a desktop and its file cache, however much memory the machine has."""


class Config(Section):
    """A valid configuration: all sections, with defaults for the keys that are not set."""

    service: ServiceSection
    memory: MemorySection
    runtime: RuntimeSection
    runtimes: Mapping[RuntimeName, RuntimeSection] = Field(default_factory=dict)
    logs: LogsSection
    trace: TraceSection
    http: HttpSection
    auth: AuthSection
    tls: TlsSection
    fleet: FleetSection
    etcd: EtcdSection
    defaults: DefaultsSection
    groups: Mapping[SectionName, GroupSection] = Field(default_factory=dict)
    models: Mapping[ModelName, ModelSection] = Field(default_factory=dict)
    clients: Mapping[SectionName, ClientSection] = Field(default_factory=dict)
    _places: Mapping[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    def bound_as(self, started_with: "Config") -> "Config":
        """Return the configuration with the name and the address of a service that runs.

        It keeps those with which it was started, whatever a reload reads.
        """
        fleet = started_with.fleet
        kept = {"name": fleet.name, "advertise": fleet.advertise}
        return self.model_copy(update={"fleet": self.fleet.model_copy(update=kept)})

    def limits(self, total: int, default_budget: int) -> Limits:
        """Return the limits of the whole pool.

        total: the machine's memory in bytes, to which percentages refer.
        default_budget: the memory budget in bytes if none is set.
        """
        names = {field.name for field in fields(Limits)}
        values = {
            key: getattr(section, key)
            for section in (self.service, self.memory)
            for key in names & type(section).model_fields.keys()
        }
        budget, reserve = self.memory.budget, self.memory.reserve
        if reserve is None:
            reserve = min(DEFAULT_RESERVE.of(total), MAX_DEFAULT_RESERVE_BYTES)
        return Limits(
            **values,
            memory_budget=_in_bytes(default_budget if budget is None else budget, total),
            memory_reserve=int(_in_bytes(reserve, total)),
            groups={name: group.limit for name, group in self.groups.items()},
        )

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue: each listed model's settings, the defaults, and the aliases."""
        runtimes, defaults = self.all_runtime_options, self.default_settings

        def with_hash(settings: Settings) -> Settings:
            return replace(
                settings, config_hash=config_hash_of(runtimes[settings.runtime], settings)
            )

        return Catalogue(
            with_hash(defaults),
            {
                name: with_hash(model.over_with_origin(name, defaults))
                for name, model in self.models.items()
            },
            {alias: name for name, model in self.models.items() for alias in model.aliases},
            self.service.only_listed,
            self.service.home_model,
            {name: frozenset(model.model_fields_set) for name, model in self.models.items()},
            {
                key: self._places.get(("defaults", key), "[defaults]")
                for key in self.defaults.model_fields_set
            },
        )

    def with_places(self, places: Mapping[tuple[str, ...], str]) -> "Config":
        """Return the configuration with the variables and flags that set some of its keys."""
        self._places = places
        return self

    @property
    def runtime_options(self) -> RuntimeOptions:
        """The options of the default runtime, which serves models that name none."""
        return self._options(self.runtime)

    @property
    def all_runtime_options(self) -> Mapping[str, RuntimeOptions]:
        """The options of each runtime by its name; the default runtime's name is empty."""
        named = {name: self._options(section) for name, section in self.runtimes.items()}
        return {"": self.runtime_options} | named

    @property
    def default_settings(self) -> Settings:
        """The settings of models without a section of their own, without the config hash."""
        return self.defaults.over(Settings(runtime_model=""))

    def _options(self, section: RuntimeSection) -> RuntimeOptions:
        service = self.service
        return RuntimeOptions(
            data_dir=service.data_dir,
            host=self.fleet.advertise,
            trusted_directories=service.trusted_directories,
            model_directories=tuple(
                path
                for path in (model.runtime_model or name for name, model in self.models.items())
                if path.startswith(os.sep)
            ),
            **{**dict(section), "command": whole_command(section.command)},
        )


def _in_bytes(amount: float | Share, total: int) -> float:
    return amount.of(total) if isinstance(amount, Share) else amount
