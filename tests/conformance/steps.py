"""The steps of a scenario: the calls of the runner, and the harm that is done."""

import os
import signal as signals
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

from tests.client.scripted import Script
from tests.conformance.expected import ANY, POSITIVE, Is, Json, Said, difference, fits
from tests.conformance.runners import Call
from tests.conformance.stage import Stage
from tests.faults.lives import Stream

NOTHING = Is("nothing", lambda value: not value)
SOMETHING = Is("not empty", bool)


class Step(Protocol):
    def play(self, stage: Stage) -> None: ...


def refused(
    reason: str,
    code: str,
    *details: str,
    metadata: Sequence[str] | Mapping[str, object] = (),
    **more: Any,
) -> Json:
    """An error by its reason.

    details: which of retry_after, last_lines, violations it has; metadata: names that are
    there, or what they say.
    """
    words = reason.split("_")
    kind = "".join(word.capitalize() for word in words)
    return {
        "kind": "InvalidRequest" if words[0] == "INVALID" else kind,
        "code": code,
        "reason": reason,
        "message": SOMETHING,
        "retry_after": POSITIVE if "retry_after" in details else None,
        "last_lines": SOMETHING if "last_lines" in details else NOTHING,
        "violations": SOMETHING if "violations" in details else NOTHING,
        "metadata": metadata if isinstance(metadata, Mapping) else dict.fromkeys(metadata, ANY),
        **more,
    }


def failed(kind: str, code: str, **more: Any) -> Json:
    """An error without a reason."""
    return {"kind": kind, "code": code, "reason": NOTHING, "message": SOMETHING, **more}


def check(stage: Stage, call: Call, gives: object, fails: object) -> Json:
    """How it ended, which is as expected."""
    end = call.end()
    expected = {"error": fails} if fails is not None else {"result": gives}
    found = difference(stage.fill_all(expected), end, call.command["op"])
    assert found is None, f"{found}\n{call.command}\n{end}"
    result: Json = end["error"] if "error" in end else end["result"]
    return result


@dataclass(frozen=True, slots=True)
class Do:
    """A command, and how it ends at once or later (`End`)."""

    op: str
    fields: Mapping[str, Any]
    gives: object
    fails: object
    name: str
    waits: bool
    takes: float = 0.0

    def play(self, stage: Stage) -> None:
        began = time.monotonic()
        call = stage.begin(self.op, self.fields, self.name)
        if self.waits:
            result = check(stage, call, self.gives, self.fails)
            stage.said[self.name or self.op] = result
            assert time.monotonic() - began >= self.takes, f"it came too soon: {result}"


def call(
    op: str,
    *,
    gives: object = ANY,
    fails: object = None,
    name: str = "",
    client: str = "main",
    takes: float = 0.0,
    **fields: Any,
) -> Do:
    """A command that is waited for.

    name: of its result, and of its client if it connects; takes: seconds, at least.
    """
    return Do(op, _with_client(op, client, fields), gives, fails, name, waits=True, takes=takes)


def begin(op: str, name: str, *, client: str = "main", **fields: Any) -> Do:
    """A command that goes on beside what follows."""
    return Do(op, _with_client(op, client, fields), ANY, None, name, waits=False)


def _with_client(op: str, client: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    alone = op in ("connect", "cancel") or "hold" in fields
    return fields if alone else {"client": client, **fields}


@dataclass(frozen=True, slots=True)
class End:
    """How a command ends that was begun."""

    name: str
    gives: object = ANY
    fails: object = None

    def play(self, stage: Stage) -> None:
        stage.said[self.name] = check(stage, stage.calls[self.name], self.gives, self.fails)


@dataclass(frozen=True, slots=True)
class Event:
    """The next event of a command that is like this; others before it are passed over."""

    of: str
    like: object
    name: str = ""

    def play(self, stage: Stage) -> None:
        like = stage.fill_all(self.like)
        try:
            event = stage.calls[self.of].event(lambda each: fits(like, each))
        except AssertionError as error:
            seen = stage.calls[self.of].events
            raise AssertionError(f"{error}\nno event of {self.of} is {like}, of {seen}") from error
        if self.name:
            stage.said[self.name] = event


@dataclass(frozen=True, slots=True)
class FirstEvent:
    """The next event of a command, which is like this."""

    of: str
    like: object

    def play(self, stage: Stage) -> None:
        event = stage.calls[self.of].event(lambda _: True)
        found = difference(stage.fill_all(self.like), event, self.of)
        assert found is None, found


@dataclass(frozen=True, slots=True)
class StillOpen:
    """The command has not ended."""

    of: str

    def play(self, stage: Stage) -> None:
        assert not stage.calls[self.of].ended, stage.calls[self.of].end()


@dataclass(frozen=True, slots=True)
class NoGap:
    """Of a watch: each change is one revision after the one before, or it began anew."""

    of: str

    def play(self, stage: Stage) -> None:
        events = stage.calls[self.of].events
        last: int | None = None
        breaks = 0
        for event in events:
            follows = last is not None and event["revision"] == last + 1
            if event["kind"] == "synced":
                breaks += last is not None
                last = event["revision"]
            elif follows:
                last = event["revision"]
            else:
                breaks += last is not None
                last = None
        beginnings = [event["kind"] for event in events].count("synced")
        assert breaks == beginnings - 1, events


@dataclass(frozen=True, slots=True)
class Asked:
    """What the script was asked: the fields of each request of an RPC, as they were sent."""

    rpc: str
    requests: Sequence[Mapping[str, object]]

    def play(self, stage: Stage) -> None:
        assert isinstance(stage.place, Script)
        sent = [
            {field.name: value for field, value in request.ListFields()}
            for request in stage.place.asked[self.rpc]
        ]
        found = difference(list(self.requests), sent, self.rpc)
        assert found is None, found
        assert [set(one) for one in sent] == [set(one) for one in self.requests]


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many commands at a time; one: what exactly one of their results is like."""

    count: int
    op: str
    fields: Mapping[str, Any]
    gives: object
    one: object

    def play(self, stage: Stage) -> None:
        fields = {"client": "main", **self.fields}
        calls = [stage.begin(self.op, fields) for _ in range(self.count)]
        results = [check(stage, each, self.gives, None) for each in calls]
        assert sum(fits(self.one, each) for each in results) == 1, results
        stage.said["crowd"] = results[0]


# --- harm ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Signal:
    """Of a process that an earlier step told of, such as `first.server.pid`."""

    pid: str
    number: signals.Signals = signals.SIGKILL

    def play(self, stage: Stage) -> None:
        os.kill(Said(self.pid).find(stage.said), self.number)


@dataclass(frozen=True, slots=True)
class Ask:
    """Somebody else's request to a server, begun and under way until the scenario ends."""

    server: str
    tokens: int

    def play(self, stage: Stage) -> None:
        server = Said(self.server).find(stage.said)
        asked = SimpleNamespace(**server)
        stage.stack.callback(Stream(asked, self.tokens).close)


@dataclass(frozen=True, slots=True)
class KillService:
    """kill -9; of a front also of its members, if `members` says so."""

    members: bool = False

    def play(self, stage: Stage) -> None:
        if self.members:
            stage.world.kill_all()
        else:
            stage.world.kill()


@dataclass(frozen=True, slots=True)
class StartService:
    """The next one; recovered: it is SERVING, else it only answers."""

    recovered: bool = True

    def play(self, stage: Stage) -> None:
        if self.recovered:
            stage.world.start()
        else:
            stage.world.begin()


@dataclass(frozen=True, slots=True)
class AwaitRecovery:
    """Until the service that was started is SERVING."""

    def play(self, stage: Stage) -> None:
        stage.world.await_serving()


@dataclass(frozen=True, slots=True)
class TerminateService:
    """SIGTERM: it drains, and ends."""

    def play(self, stage: Stage) -> None:
        stage.world.terminate()


@dataclass(frozen=True, slots=True)
class AwaitEnd:
    """Until the service has ended; then the members of a front end, too."""

    def play(self, stage: Stage) -> None:
        stage.world.await_end()


@dataclass(frozen=True, slots=True)
class Configure:
    """The configuration's file has this besides what it began with."""

    more: str

    def play(self, stage: Stage) -> None:
        stage.world.configure(stage.fill(self.more))


@dataclass(frozen=True, slots=True)
class Limit:
    """The pool is configured with the new for the old, and the service, or the members, told."""

    old: str
    new: str

    def play(self, stage: Stage) -> None:
        stage.world.limit(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Write:
    """A file with this text and mode, put in the place of the one before."""

    text: str
    file: str = "{file}"
    mode: int = 0o600

    def play(self, stage: Stage) -> None:
        path = Path(stage.fill(self.file))
        new = path.with_suffix(".new")
        new.write_text(stage.fill(self.text))
        new.chmod(self.mode)
        new.replace(path)


@dataclass(frozen=True, slots=True)
class Open:
    """What `load_until={gate}` waits for is there."""

    gate: str = "{gate}"

    def play(self, stage: Stage) -> None:
        (stage.directory / stage.fill(self.gate)).touch()


@dataclass(frozen=True, slots=True)
class Await:
    """Until the service says so of a model: its state, how many hold it."""

    model: str
    state: str
    holds: int | None = None

    def play(self, stage: Stage) -> None:
        model = stage.fill(self.model)

        def suits(servers: Mapping[str, Any]) -> bool:
            server = servers.get(model)
            return (
                server is not None
                and server.state.name == self.state
                and self.holds in (None, server.holds)
            )

        stage.world.await_pool(suits)
