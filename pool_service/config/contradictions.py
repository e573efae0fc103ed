"""Checks across keys: finds values that are valid by themselves but not together."""

from collections.abc import Collection, Iterator, Sequence

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.key_delivery import (
    KEY,
    KEY_FILE,
    Variables,
    names_key,
    names_key_file,
)
from pool_service.adapters.runtime.launch_plan import Kind, option_names, option_value
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.address import Address
from pool_service.config.access_contradictions import Access, access_contradictions
from pool_service.config.config import Config
from pool_service.config.errors import KeyPath, closest, key_name
from pool_service.config.etcd_contradictions import etcd_contradictions
from pool_service.config.runtime_section import RuntimeSection
from pool_service.config.schema import DefaultsSection
from pool_service.config.sizes import size_as_written
from pool_service.core.types import Settings

Problems = Iterator[tuple[str, str]]
"""Keys of a section, each with what is wrong and what to do."""


def contradictions(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Yield each key that contradicts another, with what is wrong and what to do."""
    yield from _in(("service",), _service_problems(config))
    yield from access_contradictions(
        Access(
            key=("service", "listen"),
            listen=config.service.listen,
            http_listen=config.http.listen,
            tls=config.tls,
            clients=config.clients,
            no_fronts="" if config.fleet.name else "without fleet.name; set that",
        )
    )
    yield from _fleet_problems(config)
    yield from _in(("runtime",), _runtime_problems(config.runtime, config.runtime_options))
    for name, section in config.runtimes.items():
        options = config.all_runtime_options[name]
        yield from _in(("runtimes", name), _runtime_problems(section, options))
    defaults = config.default_settings
    yield from _in(("defaults",), _section_problems(config, config.defaults, defaults))
    for name, model in config.models.items():
        settings = model.over(defaults)
        yield from _in(("models", name), _section_problems(config, model, settings))
        yield from _in(("models", name), _memory_problems(config, settings))
        yield from _in(("models", name), _warm_prompt_problems(config, settings))
    for name, what in _alias_problems(config):
        yield ("models", name, "aliases"), what


def _in(place: KeyPath, problems: Problems) -> Iterator[tuple[KeyPath, str]]:
    for key, what in problems:
        yield (*place, key), what


def _fleet_problems(config: Config) -> Iterator[tuple[KeyPath, str]]:
    fleet = config.fleet
    if fleet.model_fields_set - {"name"} and not fleet.name:
        yield ("fleet", "name"), "must be set as well: the name of this host in its fleet"
    yield from _in(("fleet",), _registration_problems(config))
    endpoints = fleet.registry_keys.endpoints if fleet.registry_keys else ()
    yield from etcd_contradictions(config.etcd, endpoints, "fleet.registry is not etcd")
    if not fleet.leaves_loopback:
        return
    for name, options in config.all_runtime_options.items():
        if not options.server_keys:
            what = (
                "must not be false while fleet.advertise lets other machines reach the servers, "
                "since whoever reaches one could use it; remove one of the two"
            )
            section = ("runtimes", name) if name else ("runtime",)
            yield (*section, "server_keys"), what


def _registration_problems(config: Config) -> Problems:
    fleet = config.fleet
    address = fleet.registered_address
    if fleet.registry_keys is None:
        if address:
            yield "registered_address", "has no effect without registry; set both or neither"
        return
    if not address:
        what = f"must be set, since fleet.registry is {fleet.registry}: the host:port at which "
        yield "registered_address", f"{what}fronts reach this service"
    elif not _is_local(address) and all(map(_is_local, config.service.listen)):
        what = f"{address} is for other machines, and service.listen has only addresses of this one"
        yield "registered_address", f"{what}; add one that they reach"


def _is_local(text: str) -> bool:
    return Address.parse(text).is_local


def _service_problems(config: Config) -> Problems:
    service = config.service
    names = {*config.models, *(alias for one in config.models.values() for alias in one.aliases)}
    if service.only_listed and service.home_model and service.home_model not in names:
        missing = _undefined("models", service.home_model, names, "its settings")
        yield "home_model", f"only_listed is set, and {missing}"
    # A default that is less than `standby` adds nothing to it.
    if "standby_max" in service.model_fields_set and service.standby_max < service.standby:
        most, kept = service.standby_max, service.standby
        yield "standby_max", f"standby_max ({most}) must not be less than standby ({kept})"


def _runtime_problems(section: RuntimeSection, options: RuntimeOptions) -> Problems:
    kind = options.effective_kind
    yield from _command_problems(options.command, kind)
    yield from _probe_problems(section, kind)
    yield from _key_problems(options, ("command", section.command), section.environment)


def _command_problems(command: Sequence[str], kind: Kind) -> Problems:
    """Yield what the command lacks for a runtime of this kind."""
    if kind != "vllm-mlx":
        return
    if not any("{runtime_model}" in part for part in command):
        yield "command", 'must tell vllm-mlx what to load: add "{runtime_model}" behind "serve"'
    if option_value(command, "--port") not in {"{port}", vllm_mlx.ANY_PORT}:
        yield "command", 'must tell vllm-mlx its port: add "--port", "{port}"'


def _probe_problems(section: RuntimeSection, kind: Kind) -> Problems:
    """Yield keys about readiness and activity that have no effect without another key."""
    for key, other in (("busy_path", "busy_values"), ("ready_path", "ready_body")):
        if bool(getattr(section, key)) != bool(getattr(section, other)):
            missing, there = (other, key) if getattr(section, key) else (key, other)
            yield there, f"has no effect without {missing}; set both or neither"
    if section.busy_path and kind == "vllm-mlx":
        yield (
            "busy_path",
            "is for other runtimes; the pool knows where to ask vllm-mlx, so remove it",
        )
    if section.use_values and not section.busy_path:
        yield "use_values", "has no effect without busy_path, whose answer has them; set both"
    values = (*section.busy_values, *section.use_values)
    pointers = [value.startswith("/") for value in values]
    if any(pointers) and not all(pointers):
        key = "use_values" if section.use_values else "busy_values"
        yield key, "must name either metrics or JSON pointers, since one answer is read"


def _key_problems(
    runtime: RuntimeOptions, words: tuple[str, Sequence[str]], environment: Variables
) -> Problems:
    """Yield placeholders for a key that the server does not get by them.

    words: the key that has the command or the arguments, and these.
    """
    if runtime.is_sent_its_key:
        why = "is for other programs: vllm-mlx gets its key by itself, so remove it"
    elif not runtime.server_keys:
        why = "stands for nothing while server_keys is false; remove it, or set that to true"
    else:
        return
    name, command = words
    if names_key_file(command):
        yield name, f"{KEY_FILE} {why}"
    if names_key((), environment):
        yield "environment", f"{KEY} {why}"


def _section_problems(config: Config, section: DefaultsSection, settings: Settings) -> Problems:
    """Yield keys of a section that name an undefined section, or make timeouts contradict.

    settings: the section over the defaults.
    """
    timeouts = section.model_fields_set & {"probe_timeout", "start_timeout"}
    if timeouts and settings.probe_timeout >= settings.start_timeout:
        probe, start = settings.probe_timeout, settings.start_timeout
        what = f"probe_timeout ({probe:g} s) must be less than start_timeout ({start:g} s)"
        # If the section sets both, report the problem once.
        yield min(timeouts), what
    if section.runtime and section.runtime not in config.runtimes:
        yield "runtime", _undefined("runtimes", section.runtime, config.runtimes, "its command")
    runtime = config.all_runtime_options.get(settings.runtime)
    if runtime and section.model_fields_set & {"runtime", "arguments", "environment"}:
        yield from _key_problems(runtime, ("arguments", settings.arguments), settings.environment)
    for group in section.groups:
        if group not in config.groups:
            yield "groups", _undefined("groups", group, config.groups, "its limit")


def _undefined(table: str, name: str, known: Collection[str], content: str) -> str:
    meant = closest(name, known)
    hint = f", did you mean {meant!a}?" if meant else f"; add that section, with {content}"
    return f"there is no [{key_name((table, name))}]{hint}"


def _memory_problems(config: Config, settings: Settings) -> Problems:
    expected, limit = settings.expected_memory, settings.memory_limit
    budget = config.memory.budget
    if expected is None:
        return
    needed = f"expected_memory ({size_as_written(expected)})"
    if limit is not None and limit < expected:
        most = f"must not be more than memory_limit ({size_as_written(limit)})"
        yield "expected_memory", f"{needed} {most}, or its server would be replaced for ever"
    # The bytes of a share are only known on the machine that serves.
    if isinstance(budget, int | float) and expected > budget:
        most = f"is more than memory.budget ({size_as_written(budget)})"
        yield "expected_memory", f"{needed} {most}, so it could never start; raise the budget"


def _warm_prompt_problems(config: Config, settings: Settings) -> Problems:
    """Yield why the server of a model would not use its warm prompts."""
    runtime = config.all_runtime_options.get(settings.runtime)
    # A runtime without a section is reported by itself.
    if not settings.warm_prompts or runtime is None:
        return
    names = option_names((*runtime.command, *settings.arguments))
    if runtime.effective_kind != "vllm-mlx":
        yield "warm_prompts", "is for vllm-mlx, and the model has another runtime; remove it"
    elif vllm_mlx.WARM_PROMPTS in names:
        yield "warm_prompts", f"is set beside the argument {vllm_mlx.WARM_PROMPTS}; remove one"
    elif vllm_mlx.BATCHING not in names and (why := runtime.prompts_obstacle(settings)):
        lacking = f"{vllm_mlx.BATCHING}, which is not added {why}"
        yield "warm_prompts", f"has no effect without {lacking}; add it yourself, or remove this"


def _alias_problems(config: Config) -> Problems:
    """Yield models with an alias that is another model's name or alias."""
    owners: dict[str, str] = {}
    for name, model in config.models.items():
        for alias in model.aliases:
            if alias in config.models:
                yield name, f"{alias!a} is the name of a model; remove one of them"
            elif owners.setdefault(alias, name) != name:
                other = key_name(("models", owners[alias]))
                yield name, f"{alias!a} is an alias of {other} already"
