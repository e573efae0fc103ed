"""Redaction of errors: their texts have no more than a caller may know; see `redaction`."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from pool_service.access.principal import Principal
from pool_service.core import errors
from pool_service.core.call_error_texts import in_use
from pool_service.core.errors import PoolError
from pool_service.rpc.visibility import unknown


def redacted_error(error: PoolError, principal: Principal) -> PoolError:
    """Return an error as a caller may know it; the error itself if nothing is left out."""
    if principal.sees_all:
        return error
    kind = type(error)
    if kind in QUOTING and not (principal.logs and principal.models.is_everything):
        return _without_quotes(error, principal)
    if kind in NAMING and not principal.models.is_everything:
        return NAMING[kind](error, principal)
    if kind in NAMING or kind in OWN or kind in QUOTING:
        return error
    return PoolError(f"{kind.__name__} is not known to be of the caller's own")


QUOTING: Final = frozenset(
    {
        errors.CrashLoop,
        errors.ModelRejected,
        errors.RuntimeUnavailable,
        errors.StartFailed,
        errors.StartTimeout,
    }
)
"""The errors that can quote what a server has written."""


def _without_quotes(error: Any, principal: Principal) -> PoolError:  # noqa: ANN401  # of QUOTING
    why = "its log may say why" if principal.logs else "ask the service's operator why"
    message = f"the server of {error.model!r} could not be started; {why}."
    told: PoolError = replace(error, message=message)
    if hasattr(told, "last_lines") and not principal.logs:
        told.last_lines = ()
    return told


def _in_use(error: errors.ServerInUse, _principal: Principal) -> PoolError:
    return in_use(
        error.model, error.requests if error.counted else None, ("",) * len(error.holders)
    )


def _unknown(error: PoolError, principal: Principal) -> PoolError:
    return unknown(principal, error.model)


def _says(message: str) -> Callable[[PoolError, Principal], PoolError]:
    """Return what gives an error another message. message: {model} is the model's name."""
    return lambda error, _principal: replace(error, message=message.format(model=repr(error.model)))


NAMING: Final[Mapping[type[PoolError], Callable[[Any, Principal], PoolError]]] = {
    errors.ConfigInvalid: _says(
        "the configuration is not valid, so nothing was changed. Why is in the service's log."
    ),
    errors.ModelNotOnDisk: _says(
        "{model} cannot be started: its files are not on the service's machine. Pull it, or allow "
        "the download with this call."
    ),
    errors.ModelUnknown: _unknown,
    errors.PoolUnreachable: _says("the fleet cannot be asked for it now. Try again."),
    errors.PoolFull: _says("there was no room for {model} in time. Try again."),
    errors.ServerInUse: _in_use,
}
"""The errors whose text can name another model, or another caller's label."""

OWN: Final = frozenset(
    {
        errors.InvalidField,
        errors.RuntimeModelConflict,
        errors.CodeNotTrusted,
        errors.FetchFailed,
        errors.ModelTooLarge,
        errors.QueueFull,
        errors.Evicted,
        errors.ShuttingDown,
        errors.Recovering,
        errors.RevisionCompacted,
        errors.LogNotFound,
        errors.TooManyFollowers,
        errors.TooManyPins,
        errors.TokenMissing,
        errors.TokenUnknown,
        errors.CertificateUnknown,
        errors.ScopeMissing,
        errors.QuotaExceeded,
        errors.StaleFleet,
        errors.FleetOnly,
    }
)
"""The errors that tell of nothing but the call and the model that it names."""
