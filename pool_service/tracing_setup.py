"""Set-up of traces: whether they are configured, and their packages, which are an extra."""

import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

    from pool_service.tracing.traces import Traces

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
"""The standard variables that name a collector."""

log = structlog.get_logger("pool_service.app")


def is_wanted(endpoint: str, variables: Mapping[str, str]) -> bool:
    """Return whether traces are to be sent.

    endpoint: the value of `trace.endpoint`, or empty. variables: the environment.
    """
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporters = variables.get("OTEL_TRACES_EXPORTER") or "otlp"
    if "otlp" not in [name.strip() for name in exporters.split(",")]:
        return False
    return bool(endpoint) or any(variables.get(name) for name in ENDPOINT_VARIABLES)


def traces_of(endpoint: str, resolve: Callable[[str], str]) -> "Traces | None":
    """Return the traces of a pool; None if none are wanted, or if their packages are missing.

    endpoint: see `configured_provider`. resolve: returns the model that a caller's name means.
    """
    provider = configured_provider(endpoint, "pool-service")
    if provider is None:
        return None
    from pool_service.tracing.traces import Traces  # noqa: PLC0415

    return Traces(provider, resolve)


def configured_provider(endpoint: str, name: str) -> "TracerProvider | None":
    """Return the provider that exports to a collector; None if none is wanted or can be had.

    endpoint: the URL of the collector; empty: as the standard variables say. name: of the program.
    The packages are imported only here, since they take memory and a tenth of a second.
    """
    if not is_wanted(endpoint, os.environ):
        return None
    try:
        from pool_service.tracing import exporting  # noqa: PLC0415
    except ImportError as error:
        log.warning("traces need packages that are missing: install pool-service[otel]", why=error)
        return None
    try:
        return exporting.provider_of(endpoint, name, version("pool-service"))
    except Exception as error:  # noqa: BLE001  # a variable meant for other programs, perhaps
        log.warning("no traces are sent: a variable OTEL_… has a bad value", why=error)
        return None


def close(provider: "TracerProvider") -> Callable[[], None]:
    """Begin to send the last spans; return a function that waits until they are sent."""
    from pool_service.tracing import exporting  # noqa: PLC0415

    return exporting.close(provider)


def variables_for(endpoint: str) -> dict[str, str]:
    """Return the variables by which a program sends its traces to the collector at a URL."""
    return {ENDPOINT_VARIABLES[0]: endpoint.rstrip("/") + "/v1/traces"} if endpoint else {}
