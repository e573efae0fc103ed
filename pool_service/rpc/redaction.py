"""Redaction: leaves out of an answer what its receiver may not know.

Two rules. What servers write can hold parts of prompts, so only callers with `logs` get what quotes
it. Texts name the models that a decision was about, so callers that may know of some models only
get no text that the service has made up about servers. Fields with values stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from pool_service.access.principal import Principal
from pool_service.v1 import pool_service_pb2 as pb

M = TypeVar("M", bound=Message)

MAX_KEPT = 1024
"""The most answers that are kept, some hundred bytes each."""

_FAILED = "could not be started, or has ended"

DETAILS: Final[Mapping[int, str]] = {
    pb.SERVER_STATE_QUEUED: "waits for its turn",
    pb.SERVER_STATE_STARTING: "is starting",
    pb.SERVER_STATE_STOPPING: "is being stopped",
    pb.SERVER_STATE_BACKING_OFF: _FAILED,
    pb.SERVER_STATE_FAILED: _FAILED,
}
"""What is told of a server by its state, if the service's own words are not for the caller."""

_QUOTES_LOG: Final = frozenset({pb.SERVER_STATE_BACKING_OFF, pb.SERVER_STATE_FAILED})
"""The states whose detail can be a line of a log. A start after a failure has it, too."""

PROBLEM: Final = "it cannot be started as it is configured: ask the service's operator"


class Redactions:
    """Redacts answers, and keeps those of Ensure: callers in a row get the same."""

    def __init__(self) -> None:
        # By the model and what the caller may know: the answer, and its copy.
        self._kept: dict[tuple[str, bool, bool], tuple[Message, Message]] = {}

    def of(self, message: M, principal: Principal) -> M:
        """Return what `redacted` does."""
        if principal.sees_all:
            return message
        if not isinstance(message, pb.EnsureResponse):
            return redacted(message, principal)
        key = message.server.model, principal.logs, principal.models.is_everything
        known, copy = self._kept.get(key, (None, message))
        if known is not message:
            copy = redacted(message, principal)
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[key] = message, copy
        return cast("M", copy)


def redacted(message: M, principal: Principal) -> M:
    """Return an answer as a caller may know it; the answer itself if nothing is left out.

    An answer of a kind that is not known here raises KeyError, so that nothing gets out by mistake.
    """
    if principal.sees_all:
        return message
    copy = type(message)()
    copy.CopyFrom(message)
    REDACTIONS[type(message)](copy, principal)
    return copy


def without_key(message: M) -> M:
    """Return an answer without the key of its server; the answer itself if it has none."""
    if "api_key" not in type(message).DESCRIPTOR.fields_by_name:
        return message
    # Others get the same message.
    copy = type(message)()
    copy.CopyFrom(message)
    copy.ClearField("api_key")
    return copy


def _server(server: pb.Server, principal: Principal) -> None:
    is_quoting = server.state in _QUOTES_LOG or server.HasField("last_exit")
    if not principal.models.is_everything or (is_quoting and not principal.logs):
        server.detail = DETAILS.get(server.state, "") if server.detail else ""
    if server.HasField("last_exit"):
        _exit(server.last_exit, principal)
    if not principal.logs:
        server.ClearField("log_path")


def _exit(end: pb.Exit, principal: Principal) -> None:
    if not (principal.logs and principal.models.is_everything):
        end.ClearField("message")
    if not principal.logs:
        end.ClearField("last_lines")


def _change(change: pb.WatchResponse, principal: Principal) -> None:
    for name in ("server", "removed"):
        if change.HasField(name):
            _server(getattr(change, name), principal)


def _of_server(message: Any, principal: Principal) -> None:  # noqa: ANN401  # by the message's kind
    _server(message.server, principal)


def _found(message: pb.GetResponse, principal: Principal) -> None:
    if message.HasField("server"):
        _server(message.server, principal)


def _evicted(message: pb.EvictResponse, principal: Principal) -> None:
    for one in message.evicted:
        _server(one.server, principal)


def _list(message: pb.ListResponse, principal: Principal) -> None:
    for server in message.servers:
        _server(server, principal)
    if not principal.models.is_everything:
        message.ClearField("notices")


def _beat(message: pb.BeatResponse, principal: Principal) -> None:
    if not principal.models.is_everything:
        message.ClearField("notices")


def _offer(message: pb.OfferResponse, principal: Principal) -> None:
    if not (principal.logs and principal.models.is_everything):
        message.message = PROBLEM if message.message else ""


def _models(message: pb.ListModelsResponse, principal: Principal) -> None:
    if not principal.models.is_everything:
        for model in message.models:
            model.problem = PROBLEM if model.problem else ""


def _log(message: pb.TailLogsResponse, principal: Principal) -> None:
    if message.HasField("exit"):
        _exit(message.exit, principal)


def _description(message: pb.DescribeResponse, principal: Principal) -> None:
    for server in message.servers:
        _server(server, principal)
    if message.HasField("last_exit"):
        _exit(message.last_exit, principal)
    for run in message.runs:
        if run.HasField("exit"):
            _exit(run.exit, principal)
    if not principal.logs:
        _without_quotes(message)
    if not principal.models.is_everything:
        _without_others(message)


def _without_quotes(message: pb.DescribeResponse) -> None:
    """Leave out why servers have failed, which can be a line of their logs."""
    message.failure_message = _FAILED if message.failure_message else ""
    for decision in message.decisions:
        if decision.after not in _RUNNING:
            decision.ClearField("why")


_RUNNING: Final = frozenset(
    {pb.SERVER_STATE_QUEUED, pb.SERVER_STATE_STARTING, pb.SERVER_STATE_READY}
)


def _without_others(message: pb.DescribeResponse) -> None:
    """Leave out what names other models, and other callers' labels, which can be anything."""
    message.failure_message = _FAILED if message.failure_message else ""
    message.problem = PROBLEM if message.problem else ""
    message.ClearField("kept_because")
    message.ClearField("decisions")
    own = [one for one in message.next_to_go if one.model == message.model]
    message.ClearField("next_to_go")
    message.next_to_go.extend(own)
    for holder in message.holders:
        holder.ClearField("label")
    for waiting in message.waiting:
        waiting.ClearField("holder")


def _nothing(_message: Message, _principal: Principal) -> None:
    """Leave nothing out: the answer tells of nothing but what its caller has named."""


REDACTIONS: Final[Mapping[type[Message], Callable[[Any, Principal], None]]] = {
    pb.ListResponse: _list,
    pb.WatchResponse: _change,
    pb.EnsureResponse: _of_server,
    pb.HoldResponse: _of_server,
    pb.GetResponse: _found,
    pb.EvictResponse: _evicted,
    pb.ListModelsResponse: _models,
    pb.TailLogsResponse: _log,
    pb.DescribeResponse: _description,
    pb.PullResponse: _nothing,
    pb.ForgetResponse: _nothing,
    pb.PinResponse: _nothing,
    pb.ReloadResponse: _nothing,
    # Only fronts get these.
    pb.BeatResponse: _beat,
    pb.OfferResponse: _offer,
    pb.EndHoldResponse: _nothing,
}
