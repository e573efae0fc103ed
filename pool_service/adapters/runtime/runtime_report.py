"""Describes what the pool knows of one runtime's program: the data of `pool-service runtime show`.

Also what the arguments of a model cost: with some options vllm-mlx does not count its requests.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pool_service.adapters.runtime import vllm_mlx
from pool_service.adapters.runtime.descriptions.promises import Behaviour, Promise, promises_of
from pool_service.adapters.runtime.descriptions.vllm_mlx_counts import VERSIONS, counts_of, in_words
from pool_service.adapters.runtime.key_delivery import has_key
from pool_service.adapters.runtime.launch_plan import Kind, option_names
from pool_service.adapters.runtime.runtime_options import RuntimeOptions
from pool_service.adapters.runtime.search import Program, Versions, interpreter_of, release_of
from pool_service.core.types import Settings

ANY_MODEL: Final = Settings(runtime_model="")
"""The settings of a model that adds nothing to the command of its runtime."""


@dataclass(frozen=True, slots=True)
class RuntimeDescription:
    """The data of `pool-service runtime show`.

    found: where the program was found, in words.
    version, interpreter: for vllm-mlx only.
    known_as: the program as the pool knows it; None: only what the configuration says of it.
    packages: those with which vllm-mlx computes, as "mlx-lm 0.31.3".
    promises: what is kept with its servers.
    flaws: what does not work with this program, and what to do.
    """

    path: str
    found: str
    kind: Kind
    version: str | None
    interpreter: str | None
    known_as: str | None = None
    packages: tuple[str, ...] = ()
    promises: tuple[Promise, ...] = ()
    flaws: tuple[str, ...] = ()

    def __str__(self) -> str:
        name = self.known_as or self.kind
        version = f" {self.version}" if self.version else ""
        return f"{name}{version}, {self.found}: {self.path}"


def describe(program: Program, options: RuntimeOptions, versions: Versions) -> RuntimeDescription:
    """Describe a program that was found. Blocking.

    versions: of vllm-mlx; without any for another program.
    """
    itself = options.is_vllm_mlx_itself
    described = options.description
    names = zip(vllm_mlx.COMPUTING_DISTRIBUTIONS, versions.computing, strict=False)
    costs = (what for _, what in use_costs(options, ANY_MODEL, versions.own))
    return RuntimeDescription(
        path=str(program.path),
        found=program.found,
        kind=options.effective_kind,
        version=versions.own,
        interpreter=interpreter_of(program.path) if itself else None,
        known_as=described.name if described else _own_name(options),
        packages=tuple(f"{name} {version}" for name, version in names if version),
        promises=tuple(promises_of(_behaviour(program, options, versions.own))),
        flaws=(*package_flaws(versions), *costs),
    )


def _own_name(options: RuntimeOptions) -> str | None:
    """Return the name of vllm-mlx for it and for what is treated as it; None for others."""
    return vllm_mlx.PROGRAM if options.effective_kind == "vllm-mlx" else None


def package_flaws(versions: Versions) -> Iterator[str]:
    """Yield which packages beside a vllm-mlx are too old for it, and what to do."""
    packages = dict(zip(vllm_mlx.COMPUTING_DISTRIBUTIONS, versions.computing, strict=False))
    found = packages.get(vllm_mlx.GENERATING_DISTRIBUTION)
    if found and release_of(found) < vllm_mlx.MINIMUM_GENERATING_VERSION:
        wanted = ".".join(map(str, vllm_mlx.MINIMUM_GENERATING_VERSION))
        yield (
            f"{vllm_mlx.GENERATING_DISTRIBUTION} {found} is too old for vllm-mlx {versions.own}: "
            f"servers without {vllm_mlx.BATCHING}, as with prompt_cache = false, become READY and "
            f"answer chats with 500. Install {wanted} or later beside it"
        )


def use_costs(
    options: RuntimeOptions, settings: Settings, version: str | None
) -> Iterator[tuple[str, str]]:
    """Yield keys of a model whose values make vllm-mlx leave requests out of its counts.

    Each is "command" (of the runtime), "arguments" or "trust_remote_code", with what it costs.
    Yields nothing for a version whose metrics count every request.
    """
    if options.effective_kind != "vllm-mlx":
        return
    missing = counts_of(_release(version)).missing_from_metrics
    if not missing:
        return
    trusts = (vllm_mlx.TRUST,) if settings.trust_remote_code else ()
    words = (
        ("command", options.command),
        ("arguments", settings.arguments),
        ("trust_remote_code", trusts),
    )
    for key, given in words:
        for name in sorted(option_names(given).intersection(vllm_mlx.NOT_WITH_AUTO_UNLOAD)):
            yield key, _cost(name, version, in_words(missing))


def _cost(name: str, version: str | None, missing: str) -> str:
    complete = ".".join(map(str, VERSIONS[0].since))
    return (
        f"beside {name}, vllm-mlx {version or 'of this version'} does not count {missing}: a "
        f"server counts as busy while anybody is connected to it. Install {complete} or later, "
        "which counts every request, or do without that option"
    )


def _behaviour(program: Program, options: RuntimeOptions, version: str | None) -> Behaviour:
    ready_path, _ = options.ready_request
    others = Behaviour(
        health_path=options.effective_health_path,
        ready_path=ready_path,
        use=options.known_use,
        drains=options.effective_drains,
        has_keys=has_key(options, program, ANY_MODEL),
    )
    if options.effective_kind != "vllm-mlx":
        return others
    release = _release(version)
    counts, with_metrics = counts_of(release), version is not None
    lost = _loses_health(options.command) or not with_metrics
    missing = counts.missing_from_metrics if lost else counts.missing
    use = vllm_mlx.use_signals(release, with_metrics=with_metrics)
    return replace(others, use=use, missing=in_words(missing))


def _loses_health(command: Sequence[str]) -> bool:
    return not option_names(command).isdisjoint(vllm_mlx.NOT_WITH_AUTO_UNLOAD)


def _release(version: str | None) -> tuple[int, ...] | None:
    return release_of(version) if version else None
