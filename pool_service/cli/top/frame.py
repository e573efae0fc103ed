"""A frame: all lines of the screen, made from the picture of the pool and the user's choices."""

from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text

from pool_service.cli.format import safe
from pool_service.cli.top.canvas import Canvas, fitted
from pool_service.cli.top.controls import Controls, Mode
from pool_service.cli.top.foot import foot
from pool_service.cli.top.head import head, outage_line
from pool_service.cli.top.picture import Picture, Row
from pool_service.cli.top.table import remarks, table, window
from pool_service.cli.top.text_views import LogText, description_view, help_view, log_view

_LEAST_TABLE = 2
"""Lines of the table, however low the screen is: the headings and the chosen row."""


def frame(
    picture: Picture, controls: Controls, log: LogText, address: str, canvas: Canvas
) -> list[Text]:
    """Return exactly `canvas.height` lines; bring the choices into the bounds of what there is."""
    if controls.mode is Mode.TABLE:
        lines = _table(picture, controls, address, canvas)
    else:
        lines = _text(picture, controls, log, canvas)
        if controls.questions:
            waits = f"q back, to a question about {controls.questions[0].model}"
            lines[-1] = Text(fitted(safe(waits), canvas.width), style="bold yellow")
    for line in lines:
        line.truncate(canvas.width)
    # The first line says whether the service answers.
    return lines if len(lines) <= canvas.height else [lines[0], *lines[1 - canvas.height :]]


def _text(picture: Picture, controls: Controls, log: LogText, canvas: Canvas) -> list[Text]:
    """Return the lines of a text, grey and below the outage while there is one."""
    outage = picture.outage
    above = [outage_line(outage, canvas)] if outage is not None else []
    view = _view(picture, controls, log, replace(canvas, height=canvas.height - len(above)))
    lines, controls.scroll = view
    for line in lines if above else ():
        line.stylize("dim")
    return [*above, *lines]


def _view(
    picture: Picture, controls: Controls, log: LogText, canvas: Canvas
) -> tuple[list[Text], int]:
    model, scroll = controls.subject, controls.scroll
    if controls.mode is Mode.LOG:
        return log_view(model, log, scroll, canvas)
    if controls.mode is Mode.DESCRIPTION:
        described = picture.descriptions.get(model) or picture.refusals.get(model, "")
        return description_view(model, described, scroll, canvas)
    return help_view(scroll, canvas)


def _table(picture: Picture, controls: Controls, address: str, canvas: Canvas) -> list[Text]:
    rows = picture.rows()
    chosen = controls.choose(rows)
    above = [*head(picture, address, canvas), Text("")]
    most = canvas.height - len(above) - _LEAST_TABLE
    below = foot(picture, controls, rows[chosen] if rows else None, canvas, most)
    height = max(canvas.height - len(above) - len(below), _LEAST_TABLE)
    lines = table(picture, rows, chosen, replace(canvas, height=height)) if rows else []
    if picture.is_complete and not rows:
        lines = [Text(fitted("no server runs, and the configuration lists no model", canvas.width))]
    first, last = window(len(rows), chosen, height - 1)
    lines += _remarks(rows[first:last], height - len(lines), canvas)
    if last - first < len(rows):
        below[0] = Text(f"  rows {first + 1} to {last} of {len(rows)}", style="dim")
    filler = [Text("")] * (height - len(lines))
    if picture.outage is not None:
        for line in (*above[1:], *lines):
            line.stylize("dim")
    return [*above, *lines, *filler, *below]


def _remarks(rows: Sequence[Row], height: int, canvas: Canvas) -> list[Text]:
    """Return why servers are as they are, as far as there is room, below an empty line."""
    said = remarks(rows, canvas)[: max(height - 1, 0)]
    return [Text(""), *said] if said else []
