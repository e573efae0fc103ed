"""The head of the screen: the service, its memory, its counts, and what is wrong."""

from collections.abc import Iterator

from rich.text import Text

from pool_service.cli.format import human_duration, safe
from pool_service.cli.server_lines import totals_line
from pool_service.cli.top.bar import memory_bar
from pool_service.cli.top.canvas import Canvas, fitted, wrapped_lines
from pool_service.cli.top.picture import Outage, Picture
from pool_service.core.units import size
from pool_service_client import ServerState, Totals

_LABEL = "memory "
_LEAST_BAR, _MOST_BAR = 10, 40
_MAX_NOTICES = 3
_MAX_HOST_LINES = 3

_PRESSURED = (
    "the machine is short of memory: unused servers are stopped first, and a start may wait"
)


def head(picture: Picture, address: str, canvas: Canvas) -> list[Text]:
    """Return the lines above the table."""
    return [line for line in _lines(picture, address, canvas) if line.plain]


def _lines(picture: Picture, address: str, canvas: Canvas) -> Iterator[Text]:
    yield _title(picture, address, canvas)
    totals = picture.totals
    if totals is None:
        return
    yield _memory(picture, totals, canvas)
    yield from map(Text, wrapped_lines(totals_line(totals), canvas.width, 2))
    yield from _hosts(picture, canvas)
    if totals.memory_pressured:
        yield _notice(_PRESSURED, canvas)
    for notice in picture.notices[:_MAX_NOTICES]:
        yield _notice(notice, canvas)


def _hosts(picture: Picture, canvas: Canvas) -> list[Text]:
    """Return lines with what the servers of each host take, if there are several hosts."""
    hosts = picture.hosts()
    if len(hosts) <= 1:
        return []
    lines = wrapped_lines(safe("; ".join(_of_host(picture, one) for one in hosts)), canvas.width, 2)
    shown = [Text(line) for line in lines[:_MAX_HOST_LINES]]
    if len(lines) > _MAX_HOST_LINES:
        shown[-1] = Text(fitted(f"{lines[_MAX_HOST_LINES - 1]} ...", canvas.width))
    return shown


def _of_host(picture: Picture, host: str) -> str:
    servers = [one for one in picture.servers.values() if one.host == host]
    ready = sum(one.state is ServerState.READY for one in servers)
    used = size(sum(one.footprint_bytes for one in servers))
    return f"{host}: {ready} ready of {len(servers)}, {used} used"


def _title(picture: Picture, address: str, canvas: Canvas) -> Text:
    if picture.outage is not None:
        return outage_line(picture.outage, canvas, f"  (pool-service at {address})")
    title = Text(fitted(safe(f"pool-service at {address}"), canvas.width), style="bold")
    title.append("" if picture.is_complete else "  (waiting for the servers)")
    return title


def outage_line(outage: Outage, canvas: Canvas, more: str = "") -> Text:
    """Return the line that says for how long the service has not done its job, and why.

    more: what is shown behind that if there is room.
    """
    since = human_duration((canvas.now - outage.since).total_seconds())
    what = "NOT READY" if outage.answers else "NO ANSWER"
    text = f"{what} for {since}, trying again: {outage.why}{more}"
    return Text(fitted(safe(text), canvas.width), style="bold red")


def _notice(text: str, canvas: Canvas) -> Text:
    return Text(fitted(safe(f"! {text}"), canvas.width), style="yellow")


def _memory(picture: Picture, totals: Totals, canvas: Canvas) -> Text:
    """Return the bar of the memory with its figures, in full if that leaves room for the bar."""
    total = totals.memory_budget_bytes or totals.memory_total_bytes
    if not totals.memory_total_bytes:
        return Text(f"{_LABEL}not sampled yet")
    used, reserved = picture.used_bytes(), totals.memory_reserved_bytes
    of = size(total) if totals.memory_budget_bytes else f"{size(total)}, no budget"
    figures = f" {size(used)} used, {size(reserved)} reserved of {of}"
    available = f"; {size(totals.memory_available_bytes)} available"
    room = canvas.width - len(_LABEL)
    if room - len(figures + available) >= _LEAST_BAR:
        figures += available
    width = max(0, min(room - len(figures), _MOST_BAR))
    bar = memory_bar(used, reserved, total, width, has_symbols=canvas.has_symbols)
    line = Text(_LABEL)
    line.append(bar, style="red" if totals.memory_pressured else "green")
    line.append(figures)
    return line
