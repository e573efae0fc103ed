"""The table of servers, and models without one: its columns, and the rows that are in sight."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich.text import Text

from pool_service.cli.appearance import Mark
from pool_service.cli.columns import GAP, fit_columns, shorten
from pool_service.cli.format import human_duration, safe
from pool_service.cli.server_lines import (
    STATE_MARKS,
    expiry_text,
    generation_text,
    label,
    memory_text,
    remark,
    state_text,
)
from pool_service.cli.top.bar import progress_bar
from pool_service.cli.top.canvas import Canvas, fitted
from pool_service.cli.top.picture import AWAITED_STATES, Key, Picture, Row
from pool_service.core.units import size
from pool_service_client import EvictionCandidate, Server, ServerRole, ServerState

_HEADINGS = (
    *("MODEL", "STATE", "HOST", "GEN", "MEMORY"),
    *("USED", "HOLDS", "WAITING", "EXPIRES", "NEXT"),
)
_WIDTHS = (5, 12, 4, 3, 13, 5, 5, 7, 7, 4)
"""The least cells of each column, so that the table stands still while its values change."""

_LEAST_IMPORTANT = ("GEN", "WAITING", "EXPIRES", "NEXT", "HOLDS", "USED", "MEMORY", "HOST")
_NAME_SHARE = 1 / 3
_STATE, _HOST = _HEADINGS.index("STATE"), _HEADINGS.index("HOST")
_BAR_WIDTH = 6

_CHOSEN, _OTHER = "> ", "  "

_PRESENCE = {True: "on disk", False: "not on disk", None: "no server"}
"""The state of a model without a server, by whether it is on disk."""

Cells = tuple[str, ...]


def table(picture: Picture, rows: Sequence[Row], chosen: int, canvas: Canvas) -> list[Text]:
    """Return the lines of the table in `canvas.height` lines, with the chosen row in sight."""
    first, last = window(len(rows), chosen, canvas.height - 1)
    shown = rows[first:last]
    order = picture.next_to_go()
    cells = [tuple(map(safe, _cells(picture, row, order, canvas))) for row in shown]
    width = canvas.width - len(_CHOSEN)
    possible = [one for one in range(len(_HEADINGS)) if one != _HOST or picture.hosts()]
    bars = [progress_bar(row.server, _BAR_WIDTH, canvas.has_symbols) for row in shown]
    if any(bars):
        wide = [_with_bar(one, bar) for one, bar in zip(cells, bars, strict=True)]
        # A bar is shown only if it costs no column but the least important one.
        lost = set(_columns(cells, width, possible)[0]) - set(_columns(wide, width, possible)[0])
        if lost <= {_HEADINGS.index(_LEAST_IMPORTANT[0])}:
            cells = wide
    columns, name_width = _columns(cells, width, possible)
    widths = _column_widths(cells, columns, name_width)
    headings = [_HEADINGS[column] for column in columns]
    lines = [Text(f"{_OTHER}{_joined(headings, widths)}".rstrip(), style="bold")]
    for place, row in enumerate(shown):
        texts = [cells[place][column] for column in columns]
        texts[0] = shorten(texts[0], name_width, canvas.has_symbols)
        chosen_width = canvas.width if first + place == chosen else 0
        lines.append(_line(texts, widths, row, chosen_width))
    return lines


def remarks(rows: Sequence[Row], canvas: Canvas) -> list[Text]:
    """Return lines that say why the servers in these rows are in their states."""
    said = ((row, _remark(row)) for row in rows)
    return [Text(fitted(safe(f"  {_name(row)}: {why}"), canvas.width)) for row, why in said if why]


def window(count: int, chosen: int, height: int) -> tuple[int, int]:
    """Return the first and the end of `height` rows of `count`, with the chosen one among them."""
    height = max(height, 1)
    first = max(0, min(chosen - height // 2, count - height))
    return first, min(first + height, count)


def _columns(
    cells: Sequence[Cells], width: int, possible: Sequence[int]
) -> tuple[tuple[int, ...], int]:
    """Return those of the possible columns that fit, and the width of the first one."""
    headings = tuple(
        f"{heading:<{least}}" for heading, least in zip(_HEADINGS, _WIDTHS, strict=True)
    )
    rows = [[row[column] for column in possible] for row in (headings, *cells)]
    droppable = [_HEADINGS.index(heading) for heading in _LEAST_IMPORTANT]
    places = [possible.index(column) for column in droppable if column in possible]
    columns, name_width = fit_columns(rows, width, places, _NAME_SHARE)
    return tuple(possible[column] for column in columns), name_width


def _column_widths(
    cells: Sequence[Cells], columns: Sequence[int], name_width: int
) -> tuple[int, ...]:
    others = (max(_WIDTHS[one], *(len(row[one]) for row in cells), 0) for one in columns[1:])
    return name_width, *others


def _with_bar(cells: Cells, bar: str) -> Cells:
    state = cells[_STATE]
    return (*cells[:_STATE], f"{state} {bar}".rstrip(), *cells[_STATE + 1 :])


def _joined(texts: Sequence[str], widths: Sequence[int]) -> str:
    gap = " " * GAP
    return gap.join(f"{text:<{width}}" for text, width in zip(texts, widths, strict=True))


def _line(texts: Sequence[str], widths: Sequence[int], row: Row, chosen_width: int) -> Text:
    """Return the line of a row. chosen_width: of the screen if the row is chosen, else 0."""
    name, state, *others = texts
    gap = " " * GAP
    line = Text(f"{_CHOSEN if chosen_width else _OTHER}{name:<{widths[0]}}{gap}")
    colour = None if chosen_width else _colour(row.server)
    line.append(f"{state:<{widths[1]}}", style=colour)
    line.append(gap + _joined(others, widths[2:]) if others else "")
    if chosen_width:
        line.pad_right(max(chosen_width - line.cell_len, 0))
        line.stylize("bold reverse")
    elif row.server is None:
        line.stylize("dim")
    return line


def _colour(server: Server | None) -> str | None:
    return STATE_MARKS.get(server.state, Mark.NOTE).colour if server is not None else None


def _cells(
    picture: Picture,
    row: Row,
    order: Mapping[Key, tuple[int, EvictionCandidate]],
    canvas: Canvas,
) -> Iterator[str]:
    server = row.server
    if server is None:
        yield from _cells_of_model(row)
        return
    _, candidate = order.get(row.key, (0, None))
    yield label(server)
    yield state_text(server)
    yield server.host or "-"
    yield generation_text(server)
    yield memory_text(server)
    yield "busy" if candidate is not None and candidate.busy else _last_use(server, canvas.now)
    yield str(server.holds or "-")
    yield _waiting(picture, server)
    yield expiry_text(server, canvas.now)
    yield _place(picture, server, order)


def _waiting(picture: Picture, server: Server) -> str:
    """Return how many calls wait for a server; "?": some may, and the service was not asked."""
    if server.role is not ServerRole.CURRENT:
        return "-"
    described = picture.descriptions.get(server.model)
    if described is not None:
        return str(described.waiting_calls or "-")
    is_awaited = picture.totals is not None and picture.totals.waiting_calls
    return "?" if is_awaited and server.state in AWAITED_STATES else "-"


def _place(
    picture: Picture, server: Server, order: Mapping[Key, tuple[int, EvictionCandidate]]
) -> str:
    """Return a server's place in the order of evictions.

    ">32": it is behind the last one that is known by its place. "?": no order is known yet.
    """
    place, _ = order.get((server.model, server.generation, server.host), (0, None))
    is_kept = server.state is not ServerState.READY or server.holds or server.pinned
    if place or is_kept or server.role is not ServerRole.CURRENT:
        return str(place or "-")
    described = picture.descriptions.get(server.model)
    if described is not None:
        return str(described.eviction_position or "-")
    known = picture.orders().get(server.host)
    if known is None:
        return "?"
    shown = len(known.next_to_go)
    return f">{shown}" if known.eviction_candidates > shown else "-"


def _cells_of_model(row: Row) -> Iterator[str]:
    known = row.known
    yield row.model
    yield _PRESENCE[known.on_disk] if known is not None else "no server"
    yield from ("-", "-")
    yield f"- / {size(known.expected_bytes)}" if known is not None and known.expected_bytes else "-"
    yield from ("-", "-", "-")
    yield "pinned" if known is not None and known.pinned else "-"
    yield "-"


def _last_use(server: Server, now: datetime) -> str:
    if server.last_use_time is None or server.state is not ServerState.READY:
        return "-"
    return human_duration((now - server.last_use_time).total_seconds())


def _name(row: Row) -> str:
    return label(row.server) if row.server is not None else row.model


def _remark(row: Row) -> str:
    if row.server is not None:
        return remark(row.server)
    # A model that was merely found may not be one for the runtime at all.
    return row.known.problem if row.known is not None and row.known.listed else ""
