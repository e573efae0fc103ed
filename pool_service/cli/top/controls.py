"""Controls: keep the user's choices, and turn each key into an action on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto

from pool_service.cli.appearance import Mark
from pool_service.cli.server_lines import generation_text, label
from pool_service.cli.top.actions import (
    Action,
    CloseLog,
    Ensure,
    Evict,
    ListModels,
    LookAtChoice,
    OpenLog,
    Pin,
    Quit,
)
from pool_service.cli.top.picture import AWAITED_STATES, Key, Picture, Row, row_of
from pool_service_client import Server, ServerRole

PAGE_ROWS = 10
"""Rows that Page Up and Page Down move by."""

_STEPS = {"up": -1, "down": 1, "page up": -PAGE_ROWS, "page down": PAGE_ROWS}
_FAR = 1_000_000
"""More rows than there are."""

MAX_MESSAGES = 3
"""Messages that are shown, the newest one whole."""

READ_S = 0.5
"""The least time for which a question is on the screen before a yes to it counts."""

_OLD_S = 60.0
"""The age from which the figures in a question are no reason to stop a server by force."""

_BESIDE = {
    ServerRole.SUCCESSOR: "this server takes over once it is ready; evict the current one",
    ServerRole.SUPERSEDED: "this server ends once its last requests are answered",
}
"""Why a server beside the current one of its model is not evicted, by its role."""


class Mode(Enum):
    """Tells the views that can fill the screen apart."""

    TABLE = auto()
    HELP = auto()
    LOG = auto()
    DESCRIPTION = auto()


@dataclass(frozen=True, slots=True)
class Question:
    """A question to answer with y or n: whether a server is to be stopped all the same.

    Attributes:
        why: why that is asked, as a sentence.
        about: the server as it was when this was asked; None: it was not known.
        force: after a yes, also if the server is held or has requests in flight.
        at: when this was asked.
    """

    model: str
    why: str
    about: Server | None
    force: bool
    at: datetime

    def still_holds(self, server: Server) -> bool:
        """Return whether a yes would do to a server what it said when this was asked."""
        asked = self.about
        return (
            asked is not None
            and (asked.generation, asked.state) == (server.generation, server.state)
            and server.holds <= asked.holds
            and server.pinned <= asked.pinned
        )

    def news(self, server: Server) -> str:
        """Return what has changed of a server since this was asked."""
        asked = self.about
        if asked is None or asked.generation != server.generation:
            return f"generation {generation_text(server)} now"
        if asked.state != server.state:
            return f"{_state(server)} now"
        return "more hold it now" if server.holds > asked.holds else "pinned now"


@dataclass(frozen=True, slots=True)
class Message:
    """The result of a call, or why a key did nothing."""

    text: str
    mark: Mark
    at: datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Controls:
    """The user's choices.

    Attributes:
        chosen: the key of the chosen row; None: the first row.
        index: the place that the chosen row had last.
        gone: the name of the chosen row, if that has gone since: no key acts on the row that is in
            its place before the user has moved. None: it is there.
        subject: the model whose log or description is shown.
        scroll: rows that the text was scrolled by: of a log from its end, else from its beginning.
        shows_all: whether models are listed that the configuration does not list.
    """

    mode: Mode = Mode.TABLE
    chosen: Key | None = None
    index: int = 0
    gone: str | None = None
    subject: str = ""
    scroll: int = 0
    shows_all: bool = False
    questions: list[Question] = field(default_factory=list)
    """Questions that the user has not answered yet; the first one is shown."""
    messages: list[Message] = field(default_factory=list)
    """The last ones, the newest at the end."""
    calls: list[str] = field(default_factory=list)
    """The calls under way, in words."""
    clock: Callable[[], datetime] = _now
    _asked: Question | None = None
    """The question that is on the screen."""
    _read_since: datetime | None = None
    """When that came onto the screen, or when a yes to it came too early."""
    _chosen_server: Server | None = None
    """The server of the chosen row when that was last seen."""

    def choose(self, rows: Sequence[Row]) -> int:
        """Return the index of the chosen row, which stays chosen wherever it moves."""
        self.index = row_of(rows, self.chosen, self.index)
        if rows:
            row = rows[self.index]
            if self.chosen is not None and not self._continues(self.chosen, row):
                server = self._chosen_server
                self.gone = label(server) if server is not None else self.chosen[0]
            self._take(row)
        return self.index

    def _continues(self, chosen: Key, row: Row) -> bool:
        """Return whether a row is the chosen one, or the next server of its model."""
        server = self._chosen_server
        had_own_row = server is not None and server.role is not ServerRole.CURRENT
        return row.key == chosen or (row.model == chosen[0] and not had_own_row)

    def _take(self, row: Row) -> None:
        self.chosen, self._chosen_server = row.key, row.server

    def say(self, text: str, mark: Mark) -> None:
        """Add a message; the oldest goes, and an earlier one with the same text."""
        others = [one for one in self.messages if one.text != text]
        self.messages = [*others, Message(text, mark, self.clock())][-MAX_MESSAGES:]

    def drawn(self) -> None:
        """Take note that what there is to see is on the screen: a question may be answered now."""
        is_seen = self.mode is Mode.TABLE and self.questions
        shown = self.questions[0] if is_seen else None
        if shown is not self._asked:
            self._asked, self._read_since = shown, self.clock()

    def press(self, key: str, picture: Picture) -> Action | None:
        """Apply a key; return what it makes the program do."""
        if self.mode is not Mode.TABLE:
            return self._press_in_text(key)
        if self.questions:
            is_answer = self.questions[0] is self._asked and not self._is_too_early(key)
            return self._answer(self.questions.pop(0), key, picture) if is_answer else None
        return self._press_in_table(key, picture)

    def _is_too_early(self, key: str) -> bool:
        """Return whether a key is a yes to a question that nobody can have read yet.

        A key that is held repeats: each yes that is too early begins the time anew.
        """
        if key not in "yY" or self._read_since is None:
            return False
        now = self.clock()
        is_early = timedelta(0) <= now - self._read_since < timedelta(seconds=READ_S)
        if is_early:
            self._read_since = now
        return is_early

    def _press_in_table(self, key: str, picture: Picture) -> Action | None:
        rows = picture.rows()
        index = self.choose(rows)
        if key in {*_STEPS, "home", "end"}:
            return self._move(key, rows, index)
        match key:
            case "q":
                return Quit()
            case "escape":
                self.messages.clear()
            case "?":
                self._show(Mode.HELP)
            case "a":
                self.shows_all = not self.shows_all
                return ListModels()
            case "E" | "e" | "p" | "l" | "d" | "\n" if rows:
                return self._press_on(key, rows[index], picture)
        return None

    def _answer(self, question: Question, key: str, picture: Picture) -> Action | None:
        if key not in "yY":
            self.say("nothing was stopped", Mark.NOTE)
            return None
        model, server = question.model, picture.current(question.model)
        if server is None:
            self.say(f"{model} has no server any more", Mark.NOTE)
        elif question.still_holds(server):
            if question.force and self._is_old(question):
                return Evict(model, again="more than a minute has passed")
            return Evict(model, force=question.force)
        else:
            reason = _reason_to_ask(server)
            why, force = reason or (_changed(server), False)
            why = f"{question.news(server)}: {why}" if reason else why
            self.questions.insert(0, Question(model, why, server, force, self.clock()))
        return None

    def _is_old(self, question: Question) -> bool:
        """Return whether what a question says may hold no more, without an event that told it."""
        age = self.clock() - question.at
        return not timedelta(0) <= age < timedelta(seconds=_OLD_S)

    def drop_questions(self, why: str) -> None:
        """Ask nothing that was asked so far; say so, and why."""
        if self.questions:
            models = ", ".join(dict.fromkeys(one.model for one in self.questions))
            self.say(f"{models}: nothing was stopped, as {why}", Mark.WARNING)
        self.questions.clear()

    def _press_in_text(self, key: str) -> Action | None:
        if key in {"q", "escape"}:
            was_log = self.mode is Mode.LOG
            self._show(Mode.TABLE)
            return CloseLog() if was_log else LookAtChoice()
        sign = -1 if self.mode is Mode.LOG else 1
        to_begin, to_end = (_FAR, 0) if self.mode is Mode.LOG else (0, _FAR)
        places = {"home": to_begin, "end": to_end}
        self.scroll = max(0, places.get(key, self.scroll + sign * _STEPS.get(key, 0)))
        return None

    def _move(self, key: str, rows: Sequence[Row], index: int) -> Action | None:
        if not rows:
            return None
        wanted = {"home": 0, "end": len(rows) - 1}.get(key, index + _STEPS.get(key, 0))
        self.index = max(0, min(wanted, len(rows) - 1))
        self._take(rows[self.index])
        self.gone = None
        return LookAtChoice()

    def _press_on(self, key: str, row: Row, picture: Picture) -> Action | None:
        if refusal := self._refusal(row, picture):
            self.say(refusal, Mark.WARNING)
            return None
        match key:
            case "E":
                return Ensure(row.model)
            case "e":
                return self._evict(row)
            case "p":
                return self._pin(row)
            case "l":
                self._show(Mode.LOG, row.model)
                return OpenLog(row.model)
            case _:
                self._show(Mode.DESCRIPTION, row.model)
                return LookAtChoice()

    def _refusal(self, row: Row, picture: Picture) -> str:
        """Return why no key acts on a row; empty if keys do."""
        if self.gone is not None:
            return f"{self.gone} has gone; choose another row with the arrow keys first"
        if row.server is not None and row.server.role is ServerRole.ORPHAN:
            return "this is an orphan of an earlier service, which the service ends by itself"
        # A call names the model, and would be about the one that the name stands for.
        other = picture.stands_for(row.model)
        return f"{row.model}: its name stands for '{other}' now; choose {other}" if other else ""

    def _show(self, mode: Mode, subject: str = "") -> None:
        self.mode, self.subject, self.scroll = mode, subject, 0

    @staticmethod
    def _pin(row: Row) -> Action:
        known = row.server or row.known
        return Pin(row.model, not (known is not None and known.pinned))

    def _evict(self, row: Row) -> Action | None:
        server = row.server
        if server is None:
            self.say(f"{row.model} has no server", Mark.NOTE)
            return None
        if server.role in _BESIDE:
            # An Evict names the model, and would stop the current server.
            self.say(f"{row.model}: {_BESIDE[server.role]}", Mark.WARNING)
            return None
        reason = _reason_to_ask(server)
        if reason is None:
            return Evict(row.model)
        why, force = reason
        self.questions.append(Question(row.model, why, server, force, self.clock()))
        return None

    def ask_before_evicting(self, model: str, why: str, server: Server | None) -> None:
        """Ask whether a server that is in use is to be stopped all the same.

        server: as it is now, so far as that is known.
        """
        self.questions.append(Question(model, why, server, force=True, at=self.clock()))


def _reason_to_ask(server: Server) -> tuple[str, bool] | None:
    """Return why to ask before a server is stopped, and whether that takes force.

    Returns None if there is nothing to ask.
    """
    model = server.model
    if server.holds:
        times = "once" if server.holds == 1 else f"{server.holds} times"
        return f"{model} is held {times}", True
    if server.state in AWAITED_STATES:
        return f"{model} is {_state(server)}, and calls that wait for it fail", False
    return (f"{model} is pinned", False) if server.pinned else None


def _changed(server: Server) -> str:
    generation = generation_text(server)
    return f"{server.model} has changed since: generation {generation} is {_state(server)}"


def _state(server: Server) -> str:
    return server.state.name.replace("_", " ")
